"""What loggers are given of a run: its settings once, its numbers by epoch, its scores at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord, Summary
from drcli.runs.records import Event as DiagnosisRecord

Value: TypeAlias = str | float | bool

_NO_CURVES = {"epoch", "n", "num_train", "num_val"}
"""Numbers that are the same in every epoch, or the epoch itself."""

FINAL = "final"
"""Begins the names of what is known at the end: curves have the same names otherwise."""

_SCORES = ("val", "test", "unimodal", "fused_probe", "seconds", "selected_epoch", "events")


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings with their names joined by "/"."""
    for name, value in values.items():
        tag = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from flatten(value, tag)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield tag, float(value)


def curves(record: EpochRecord | DiagnosisRecord) -> dict[str, float]:
    """Return the numbers of an epoch or of a diagnosis, by name: "train/loss", "relearn/audio/gap"; no counts."""
    if isinstance(record, EpochRecord):
        found = flatten(record.to_dict())
    else:
        found = flatten({record.kind: record.to_dict()["modalities"]})
    return {tag: value for tag, value in found if tag.rpartition("/")[2] not in _NO_CURVES}


def scores(summary: Summary) -> dict[str, float]:
    """Return what a finished run has reached: "final/test/accuracy", "final/unimodal/audio/probe_accuracy"."""
    found = summary.to_dict()
    each = flatten({FINAL: {key: found[key] for key in _SCORES if key in found}})
    return {tag: value for tag, value in each if tag.rpartition("/")[2] not in _NO_CURVES}


def settings(run: PlannedRun) -> dict[str, Value]:
    """Return a run's settings, by their dotted keys: text, numbers and truth values; lists as text."""
    found = dict(_leaves(run.recipe.to_dict(), ""))
    return {**found, "seed": run.seed, **({} if run.modality is None else {"modality": run.modality})}


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Value]]:
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from _leaves(value, key)
        elif value is not None and key not in {"seeds", "log"}:
            yield key, value if isinstance(value, str | int | float | bool) else str(value)


def title(run: PlannedRun) -> str:
    """Return how a run is called among others: recipe, name in tables, seed."""
    return f"{run.recipe.name}: {run.name} seed {run.seed}"
