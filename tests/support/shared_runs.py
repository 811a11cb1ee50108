"""Runs that several tests look at, each trained once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.training import bits, log, make_trainer, weights
from torch import Tensor

from drcli.data.batches import Batches
from drcli.data.prepared import PreparedDataset, Split
from drcli.engine.trainer import Trainer
from drcli.names import METHODS
from drcli.recipe.schema import Recipe


@dataclass(frozen=True)
class Finished:
    """A run after its last epoch, for several tests to look at: none may train it on.

    Attributes:
        trainer: as the last epoch left it.
        initial: bits of all parameters and buffers before the first epoch.
        groups: the parameters before the first epoch, by encoder and fusion.
        opened: the splits that were opened, in order.
        files: the files that were opened from the first epoch on, by whatever means.
        orders: row numbers of the shuffled batches, in order.
    """

    trainer: Trainer
    initial: Any
    groups: dict[str, list[Tensor]]
    opened: list[str]
    files: list[Path]
    orders: list[list[int]]

    @property
    def bits(self) -> Any:
        """All parameters and buffers after the last epoch, bit by bit."""
        return bits(weights(self.trainer))

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of its epochs."""
        return log(self.trainer.directory.folder / "metrics.jsonl")

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The validation scores of its epochs."""
        return [line["val"] for line in self.metrics]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of its events."""
        return events(self.trainer.directory.folder)

    @property
    def num_epochs(self) -> int:
        """How many epochs it has: one evaluation where the method takes no steps."""
        return self.trainer.ctx.epochs if self.trainer.assembly.method.trains else 1

    def moved(self) -> dict[str, list[bool]]:
        """Whether each parameter differs from what it was before the first epoch."""
        after = self.trainer.assembly.model.parameter_groups()
        return {
            group: [bits(old) != bits(new) for old, new in zip(before, after[group], strict=True)]
            for group, before in self.groups.items()
        }


def events(folder: Path) -> list[dict[str, Any]]:
    """The lines of the events of a run; none where there is no file."""
    path = folder / "events.jsonl"
    return log(path) if path.exists() else []


def the_modality(recipe: Recipe) -> str | None:
    """What a run of a method that trains one run a modality is restricted to."""
    per_modality = METHODS.load(recipe.methods[recipe.method].method).per_modality
    return next(iter(recipe.modalities)) if per_modality else None


def train(recipe: Recipe, folder: Path) -> Finished:
    """Train a run and note what it opened and in which order it saw the rows."""
    with _noted() as (opened, orders):
        trainer = make_trainer(recipe, folder, modality=the_modality(recipe))
        groups = trainer.assembly.model.parameter_groups()
        before = {group: [parameter.detach().clone() for parameter in groups[group]] for group in groups}
        initial = bits(weights(trainer))
        with _heard() as files:
            trainer.train()
    return Finished(trainer, initial, before, opened, files, orders)


@contextmanager
def _noted() -> Iterator[tuple[list[str], list[list[int]]]]:
    opened: list[str] = []
    orders: list[list[int]] = []
    real_split, real_shuffled = PreparedDataset.split, Batches.shuffled

    def split(self: PreparedDataset, which: str) -> Split:
        opened.append(which)
        return real_split(self, which)

    def shuffled(self: Batches, *args: Any) -> Any:
        for batch in real_shuffled(self, *args):
            orders.append(batch.index.tolist())
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreparedDataset, "split", split)
        patch.setattr(Batches, "shuffled", shuffled)
        yield opened, orders


_heard_now: list[list[Path]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _heard_now and isinstance(arguments[0], str):
        _heard_now[-1].append(Path(arguments[0]))


sys.addaudithook(_hear)


@contextmanager
def _heard() -> Iterator[list[Path]]:
    """Give a list of the files that this process opens inside the block, whoever opens them."""
    _heard_now.append([])
    try:
        yield _heard_now[-1]
    finally:
        _heard_now.pop()


class SharedRuns:
    """Trains a recipe at the first call, and keeps the runs that were asked for last.

    Args:
        folder: where the runs are.
        most: how many are kept.
    """

    def __init__(self, folder: Path, most: int = 32) -> None:
        self._folder = folder
        self._most = most
        self._trained = 0
        self._found: dict[str, Finished] = {}

    def __call__(self, recipe: Recipe) -> Finished:
        """Return the run of a recipe's method and first seed."""
        key = json.dumps(recipe.to_dict())
        found = self._found.pop(key, None) or self._train(recipe)
        self._found[key] = found  # the last, as the one asked for last
        if len(self._found) > self._most:
            del self._found[next(iter(self._found))]
        return found

    def _train(self, recipe: Recipe) -> Finished:
        self._trained += 1
        return train(recipe, self._folder / str(self._trained))
