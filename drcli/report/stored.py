"""What the files of a run directory must hold for tables and figures; anything else may stand beside it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Stored(BaseModel):
    model_config = ConfigDict(strict=True)


class _Dataset(_Stored):
    name: str


class Recipe(_Stored):
    """recipe.yaml: the resolved recipe of one label and one seed."""

    name: str
    dataset: _Dataset
    method: str
    methods: dict[str, dict[str, Any]]
    modalities: dict[str, Any]
    seeds: Annotated[list[int], Field(min_length=1, max_length=1)]


class Environment(_Stored):
    """environment.json: whatever was noted of the machine."""


class _Scores(_Stored):
    accuracy: float


class _TestScores(_Scores):
    macro_f1: float
    n: int


class _Probe(_Stored):
    probe_accuracy: float


class Summary(_Stored):
    """summary.json: the test scores of a finished run."""

    seed: int
    selection: str
    monitor: str
    seconds: float
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
