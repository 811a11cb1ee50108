"""drcli's own training, epoch by epoch, so that it can take turns with something else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import assemble
from drcli.engine.device import compile_forward, set_determinism
from drcli.engine.trainer import Trainer
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord
from drcli.watch.events import EpochFinished, Event, Listener


def with_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe, with so many epochs."""
    return replace(recipe, training=recipe.training.model_copy(update={"epochs": epochs}))


class Records(Listener):
    """Keeps what each epoch's line of metrics.jsonl says."""

    def __init__(self) -> None:
        self.epochs: list[EpochRecord] = []

    def on(self, event: Event) -> None:
        """Keep it."""
        if isinstance(event, EpochFinished):
            self.epochs.append(event.record)


class Ours:
    """The engine's trainer, taken one epoch further at a time.

    Args:
        recipe: of one run.
        dataset: the prepared dataset.
        device: where to train.
        folder: the run directory, which must exist.
        like: a run over the same data whose arrays, where they are, this one uses too.

    Attributes:
        problem: why the model is not compiled though the recipe asks for it; else None.
    """

    def __init__(
        self, recipe: Recipe, dataset: PreparedDataset, device: torch.device, folder: Path, like: Ours | None = None
    ) -> None:
        set_determinism(recipe.training.deterministic)
        self.records = Records()
        assembly = assemble(recipe, tuple(recipe.modalities), dataset, device)
        if like is not None:
            assembly._batches.update(like.trainer.assembly._batches)  # noqa: SLF001 - no run needs this
        self.trainer: Trainer = Trainer(PlannedRun(recipe, tuple(recipe.modalities), folder), assembly, self.records)
        self.problem = compile_forward(self.trainer.ctx, assembly.method)

    def epochs(self, count: int = 1) -> None:
        """Train so many epochs more, evaluate, and write the run's files, as `drcli train` does.

        Only the last one's files are waited for: in between they are written while training continues.
        """
        set_determinism(self.trainer.recipe.training.deterministic)
        done = len(self.records.epochs)
        self.trainer.recipe = with_epochs(self.trainer.recipe, done + count)
        self.trainer.next_epoch = done
        self.trainer.train()

    @property
    def accuracy(self) -> float:
        """Validation accuracy of the last epoch."""
        return self.records.epochs[-1].val.first

    def training_seconds(self, epochs: int) -> list[float]:
        """Seconds that the last epochs spent on the training rows alone, without evaluation and files."""
        rows = len(self.trainer.ctx.train)
        return [rows / record.samples_per_second for record in self.records.epochs[-epochs:]]
