"""What the files of a run directory must hold for tables and figures; anything else may stand beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True)


class _Dataset(_Stored):
    name: str
    prepare: dict[str, Any] | None = None


class Recipe(_Stored):
    """recipe.yaml: the resolved recipe of one label and one seed."""

    name: str
    dataset: _Dataset
    method: str
    methods: dict[str, dict[str, Any]]
    modalities: dict[str, dict[str, Any]]
    corrupt: dict[str, Any] | None = None
    fusion: dict[str, Any] | None = None
    seeds: Annotated[list[int], Field(min_length=1, max_length=1)]


class Environment(_Stored):
    """environment.json: whatever was noted of the machine."""


class _Finite(_Stored):
    model_config = ConfigDict(allow_inf_nan=False)


class _Scores(_Finite):
    accuracy: float


class _TestScores(_Scores):
    macro_f1: float
    n: int


class _Probe(_Finite):
    probe_accuracy: float


class Summary(_Finite):
    """summary.json: the test scores of a finished run."""

    seed: int
    selection: str
    monitor: str
    seconds: float
    teacher_seconds: float = 0.0
    test: _TestScores
    unimodal: dict[str, _Probe]


class Epoch(_Stored):
    """A line of metrics.jsonl."""

    epoch: int
    train: dict[str, float]
    val: _Scores
    test: _Scores | None = None
    clips_per_second: float | None = None


class _LearningState(_Stored):
    purity_train: float
    purity_val: float
    gap: float
    strength: float


class Event(_Stored):
    """A line of events.jsonl."""

    epoch: int
    kind: str
    modalities: dict[str, _LearningState]


def problem(found: object, model: type[BaseModel]) -> str | None:
    """Return what is wrong with a file's content, in a few words; None where it holds what it must."""
    if not isinstance(found, dict):
        return "no block of keys"
    try:
        model.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        return f"no {key}" if first["type"] == "missing" else f"{key}: {first['msg']}"
    return None


def outputs_problem(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """Return what is wrong with the arrays of test_outputs.npz, in a few words; None where they fit together."""
    lacking = [name for name in ("labels", "weight", "logits", "classes") if name not in arrays]
    if lacking:
        return f"no {lacking[0]}"
    n, c = arrays["labels"].size, arrays["classes"].size
    widths = {name: array.shape[-1:] for name, array in arrays.items() if name.startswith("features_")}
    shapes = {"labels": (n,), "weight": (n,), "logits": (n, c), "classes": (c,)}
    shapes |= {name: (n, *width) for name, width in widths.items()}
    wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
    if wrong:
        return f"{wrong[0]} has the shape {arrays[wrong[0]].shape}, not {shapes[wrong[0]]}"
    labels = arrays["labels"]
    return None if labels.dtype.kind in "iu" and set(labels.tolist()) <= set(range(c)) else "labels that are no class"
