"""Runs as `drcli train` makes them, in this process and in parts, and bit-by-bit comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from drcli.data.prepared import open_dataset
from drcli.engine.assemble import assemble
from drcli.engine.device import set_determinism
from drcli.engine.trainer import Trainer
from drcli.metrics import Scores
from drcli.models.multimodal import Teacher
from drcli.names import FUSIONS, TEACHERS
from drcli.recipe.schema import FusionBlock, Recipe
from drcli.runs.planned import PlannedRun
from drcli.watch.events import EpochFinished, Event, Listener, RowsDone

CPU = torch.device("cpu")


class StoppedError(BaseException):
    """A test stopped a run; to the engine it is what a kill is: it does not know it."""


class StopAfter(Listener):
    """Stops a run when the first batch after so many epochs was trained on."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def on(self, event: Event) -> None:
        self.left -= isinstance(event, EpochFinished)
        if self.left == 0 and isinstance(event, RowsDone):
            raise StoppedError


@dataclass(frozen=True)
class Scripted:
    """Stands for what a pass over a split gives, with scores that the test wants."""

    wanted: Scores
    features: dict[str, Tensor] = field(default_factory=dict)
    split: Any = field(default_factory=lambda: SimpleNamespace(labels=torch.zeros(0)))

    def scores(self, _: object = None) -> Scores:
        return self.wanted


def planned(recipe: Recipe, folder: Path, modality: str | None = None) -> PlannedRun:
    """The run of the recipe's method and first seed."""
    modalities = tuple(recipe.modalities) if modality is None else (modality,)
    return PlannedRun(recipe.for_run(recipe.method, recipe.seeds[0]), modalities, folder, modality)


def make_trainer(
    recipe: Recipe,
    folder: Path,
    *,
    modality: str | None = None,
    listener: Listener | None = None,
    device: torch.device = CPU,
) -> Trainer:
    """A trainer before its first epoch, whatever is in its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    set_determinism(recipe.training.deterministic)
    run = planned(recipe, folder, modality)
    assembly = assemble(run.recipe, run.modalities, open_dataset(recipe.dataset.root), device)
    teachers = made_up_teachers(recipe) if TEACHERS in type(assembly.method).requires else {}
    return Trainer(run, assembly, listener or Listener(), teachers)


def made_up_teachers(recipe: Recipe) -> dict[str, Teacher]:
    """Teachers that have learnt nothing: weights of another seed, one modality per model."""
    dataset = open_dataset(recipe.dataset.root)
    concat = FusionBlock("concat", FUSIONS.load("concat").Settings())
    other = replace(recipe.for_run(recipe.method, recipe.seeds[0] + 100), fusion=concat)
    return {m: Teacher.of(assemble(other, (m,), dataset, CPU).model) for m in recipe.modalities}


def trained(recipe: Recipe, folder: Path, *, modality: str | None = None) -> Trainer:
    """A trainer after its last epoch."""
    trainer = make_trainer(recipe, folder, modality=modality)
    trainer.train()
    return trainer


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of all parameters and buffers."""
    return {name: tensor.clone() for name, tensor in trainer.assembly.model.state_dict().items()}


def bits(value: Any) -> Any:
    """Plain containers as they are, tensors as (dtype, shape, bytes): `==` compares every bit."""
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().numpy().tobytes()
        return (str(value.dtype), tuple(value.shape), data)
    if isinstance(value, Mapping):
        return {key: bits(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [bits(item) for item in value]
    return value


def log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log without what the clock says."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    clock = {"seconds", "samples_per_second"}
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]
