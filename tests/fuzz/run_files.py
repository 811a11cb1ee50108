"""The files of a run directory, one of them damaged; the first byte says which."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fuzz.features import _ARRAYS
from fuzz.mutation import SilentAcceptanceError, as_json, mutated, refused, replaced
from hypothesis import strategies as st
from support.records import COST, conditions_record, failure_record, measures
from support.run_folders import MODALITIES, write_run

from drcli.errors import DrcliError
from drcli.report.conditions import measured_tables
from drcli.report.tables import comparison_tables
from drcli.runs.collect import RunRecord, collect
from drcli.runs.comparison import compare
from drcli.runs.directory import RunDirectory
from drcli.runs.outputs import StoredOutputs
from drcli.runs.scores import Probe, Scores
from drcli.runs.values import comparison_csv

FILES = (
    "summary.json",
    "environment.json",
    "metrics.jsonl",
    "events.jsonl",
    "recipe.yaml",
    "failure.json",
    "conditions.json",
    "test_outputs.npz",
)
RUN = Path("toy", "diagnose_relearn", "seed0")


@cache
def valid() -> tuple[bytes, ...]:
    """The files of a finished run of re-learning, and what ended it before."""
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(
            Path(folder),
            0.8,
            label="diagnose_relearn",
            outputs=True,
            monitor="test",
            environment={"threads": 2},
            summary={"measures": measures(), "cost": COST},
        )
        RunDirectory(run).write_failure(failure_record("no memory", trace="Traceback"))
        RunDirectory(run).write_conditions(conditions_record())
        return tuple((run / name).read_bytes() for name in FILES)


def inputs() -> st.SearchStrategy[bytes]:
    """Which file, then its contents with damage, or with one value replaced."""
    kinds = [
        st.one_of(mutated([content]), _replaced(name, content)) for name, content in zip(FILES, valid(), strict=True)
    ]
    return st.one_of([kind.map(partial(_numbered, n)) for n, kind in enumerate(kinds)])


def _numbered(number: int, data: bytes) -> bytes:
    return bytes([number]) + data


def _replaced(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    if name.endswith(".npz"):
        return st.tuples(
            st.sampled_from(("labels", "weight", "logits", "classes", "ids", "features_audio")), _arrays()
        ).map(lambda pair: _saved(content, *pair))
    if name.endswith(".yaml"):
        return replaced(yaml.safe_load(content)).map(lambda raw: yaml.safe_dump(raw).encode())
    if name.endswith(".jsonl"):
        lines = [json.loads(line) for line in content.splitlines()]
        return replaced(lines).map(lambda raw: b"".join(as_json(line) + b"\n" for line in raw))
    return replaced(json.loads(content)).map(as_json)


def _arrays() -> st.SearchStrategy[Any]:
    odd = (np.full((30, 3), np.nan), np.full(30, -1.0), np.arange(30), np.full(30, "x"), np.zeros((30, 3), "c8"))
    return st.sampled_from((*_ARRAYS, *odd))


def _saved(content: bytes, name: str, array: Any) -> bytes:
    stream = io.BytesIO()
    with np.load(io.BytesIO(content)) as arrays:
        np.savez(stream, allow_pickle=True, **{**arrays, name: array})
    return stream.getvalue()


def check(data: bytes, folder: Path) -> str:
    """Read the run as `report` does; what is accepted must be a run that can be."""
    kind = data[0] % len(FILES) if data else 0
    (folder / RUN).mkdir(parents=True, exist_ok=True)
    for number, (name, content) in enumerate(zip(FILES, valid(), strict=True)):
        (folder / RUN / name).write_bytes(data[1:] if number == kind else content)
    try:
        (run,) = runs = collect([folder / "toy"])
        run.failure()
        tables = [*comparison_tables(runs), *measured_tables(runs)]
        comparison_csv({run.recipe_name: compare(runs)})
        _demand_sense(run)
    except DrcliError as error:
        return refused(error)
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
    return "accepted"


def _demand_sense(run: RunRecord) -> None:
    epochs, events, outputs, summary = run.epochs(), run.events(), run.outputs(), run.done
    if [record.epoch for record in epochs] != list(range(len(epochs))):
        raise SilentAcceptanceError(f"epochs {[record.epoch for record in epochs]}")
    if [event.epoch for event in events] != sorted(event.epoch for event in events):
        raise SilentAcceptanceError("diagnoses out of order")
    scores = [summary.test, summary.val, *(record.val for record in epochs), *(record.test for record in epochs)]
    states = [state for event in events for state in event.modalities.values()]
    _demand_shares(share for found in scores if isinstance(found, Scores) for share in (found.accuracy, found.macro_f1))
    _demand_shares(share for state in states for share in (state.purity_train, state.purity_val, abs(state.gap)))
    _demand_shares(probe.probe_accuracy for probe in summary.unimodal.values() if isinstance(probe, Probe))
    if any(isinstance(found, Scores) and found.n < 1 for found in scores):
        raise SilentAcceptanceError("scores of no samples")
    if summary.selected_epoch >= max(summary.epochs, 1) or summary.seconds < 0:
        raise SilentAcceptanceError(f"epoch {summary.selected_epoch} of {summary.epochs}")
    if (summary.method, summary.seed) != (run.label, run.seed) or run.modality not in (None, *MODALITIES):
        raise SilentAcceptanceError("the scores of another run")
    if outputs is not None:
        _demand_numbers(outputs)


def _demand_shares(values: Iterable[float]) -> None:
    for value in values:
        if not 0 <= value <= 1:
            raise SilentAcceptanceError(f"{value} as a share")


def _demand_numbers(outputs: StoredOutputs) -> None:
    if any(array.dtype.kind not in "fiu" for array in outputs.features.values()):
        raise SilentAcceptanceError("features that are no numbers")
    if not (np.isfinite(outputs.logits).all() and np.isfinite(outputs.weight).all()):
        raise SilentAcceptanceError("logits or weights that are no numbers")
    if not ((outputs.weight > 0) & (outputs.weight <= 1)).all():
        raise SilentAcceptanceError("weights that are none")
