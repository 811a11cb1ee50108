"""Joint training, the seams at which every other method differs from it, and the bases of methods by these seams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeInt
from torch import Tensor, nn

from drcli.amounts import counted
from drcli.bases import Settings as BaseSettings
from drcli.bases import refuse_misspelt
from drcli.data.batches import EVERY_ROW, Batch, Selection
from drcli.diagnosis import ModalityDiagnosis
from drcli.diagnosis.settings import Slopes
from drcli.methods.context import Context
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe
from drcli.task import TaskName

Losses = dict[str, Tensor]
Scalars = dict[str, Tensor]

First = Annotated[NonNegativeInt, Field(le=1_000_000, description="first epoch in which the method acts, from 0")]
Last = Annotated[int, Field(ge=-1, le=1_000_000, description="last epoch in which the method acts; -1: none")]


@dataclass(frozen=True)
class Event:
    """What a method has done at the end of an epoch, for the log.

    Attributes:
        kind: "relearn", or a name of the method's own.
        found: what it found in each modality before it changed anything.
        left: the same measured afterwards; empty where nothing was measured.
        number: how many such events there have been, with this one.
        lambda_: slope from gap to strength; or {m: slope of m}.
        rule: what made strengths of the gaps, or the strength itself.
    """

    kind: str
    found: Mapping[str, ModalityDiagnosis]
    left: Mapping[str, ModalityDiagnosis] = field(default_factory=dict)
    number: int | None = None
    lambda_: Slopes | None = None
    rule: str | float | None = None


@dataclass(frozen=True)
class Stage:
    """Some epochs of a run in which an optimiser of their own moves a part of the parameters.

    Attributes:
        first: epoch with which the stage begins; its optimiser starts then, without momentum.
        moves: what it trains: modalities, "fusion", names of the modules that the method builds.
    """

    first: int
    moves: frozenset[str]


class Method:
    """Joint training: one cross-entropy on the fused logits, or the recipe's `loss` on the value of a regression.

    A method overrides the seams that it changes, and the list of its overrides says how deep it
    reaches: `losses` (what is minimised), `backward` (how it is differentiated), `modulate` (what
    happens to the gradients), `training_step` (the step itself), `selections` (which rows are trained
    on), `stage` (which parameters), `on_epoch_start` and `on_epoch_end` (what happens between epochs),
    `predict` (which logits count). What it does not override is joint training.

    A subclass that defines a public name which is nearly one of these hooks is refused when it is
    defined: a misspelt hook would never be called.

    Args:
        settings: the method's block of the recipe.
    """

    class Settings(BaseSettings):
        """The recipe block of `joint`: nothing to set. Other methods derive theirs from it."""

    requires: ClassVar[frozenset[str]] = frozenset()
    """What it needs beyond encoders and a late fusion: "teachers" (unimodal runs), or what a fusion `provides`."""

    state: ClassVar[tuple[str, ...]] = ()
    """Attributes, set by `setup`, that a checkpoint holds: tensors, numbers, strings, and containers of these."""

    year: ClassVar[int | None] = None
    """When it was first published; None where it is a common baseline."""

    num_modalities: ClassVar[tuple[int, int | None]] = (1, None)
    """Fewest and most modalities that its mathematics allows; None: any number."""

    neutral: ClassVar[Mapping[str, Any] | None] = {}
    """Settings under which the method is joint training, bit for bit; None where there are none."""

    neutral_reason: ClassVar[str] = ""
    """Why there are no neutral settings, where `neutral` is None."""

    moves: ClassVar[str] = "every encoder and the fusion, by the optimiser"
    """Which parameters the method changes, in words for the reader."""

    per_modality: ClassVar[bool] = False
    """Whether the method trains one run per modality instead of one run over all."""

    leaves_out: ClassVar[bool] = False
    """Whether `predict` leaves a modality out that a row lacks; if not, the fusion does with it what it can."""

    trains: ClassVar[bool] = True
    """Whether there are epochs; if not, the model is evaluated as `setup` leaves it."""

    compiled: ClassVar[bool] = True
    """Whether training calls the whole model; if not, there is nothing that `training.compile` could compile."""

    graphs: ClassVar[bool] = True
    """Whether CUDA graphs can replay how it goes back through the model."""

    relearn_reason: ClassVar[str] = ""
    """Why a `relearn:` block makes no sense with it, as a clause that follows its name; empty: it does."""

    distributed_reason: ClassVar[str] = ""
    """Why several devices cannot train one run together; empty: they can."""

    tasks: ClassVar[frozenset[TaskName]] = frozenset({"classification", "regression"})
    """What it can be trained to predict. A class that does not say so itself is for classification, whatever its base.

    With a regression, logits are values (B, 1), labels are float (B,), and a loss is `ctx.criterion(logits, labels)`.
    """

    masks_reason: ClassVar[str] = ""
    """Why it cannot be trained on data whose rows lack modalities; empty: it can."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_misspelt(cls, Method)
        if "tasks" not in vars(cls):
            cls.tasks = frozenset({"classification"})

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterable[tuple[str, str]]:
        """Yield what the recipe alone shows to be wrong: a dotted key, and why, as a clause that follows its value.

        `drcli show` and `drcli train` call it before any data is read.

        Args:
            recipe: of one run; `own_block` gives the method's block of it.
        """
        del recipe
        return ()

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why a run of all its epochs cannot go on to more, with the bits of a run of so many; empty: it can.

        A clause that follows the method's name. Methods of other packages say so themselves, by "".

        Args:
            recipe: of the run, with the epochs that it has had.
        """
        del recipe
        return "" if cls.__module__.startswith("drcli.") else "does not say whether its epochs depend on their number"

    @classmethod
    def moved(cls, settings: Any) -> str:
        """Return what the method moves under these settings, where they narrow `moves`."""
        del settings
        return cls.moves

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return extra modules; the engine moves, optimises and saves them."""
        return {}

    def setup(self, ctx: Context) -> None:
        """Prepare for the first epoch; called once, before a resumed state is loaded."""

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Return what the user should know before the first epoch, one line each."""
        return ()

    def stage(self, ctx: Context) -> Stage | None:
        """Return the stage of the present epoch, in a run that has stages; a function of epoch and settings alone.

        What a stage does not move stands still: it gets no gradient, and runs in evaluation mode. Learning rates
        stay those of the recipe.
        """
        return None

    def on_epoch_start(self, ctx: Context) -> None:
        """Act before the first step of an epoch, after its stage has begun."""

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Act after the epoch's evaluation and checkpoint; an event returned is logged."""
        return None

    def selections(self, ctx: Context) -> Iterable[Selection]:
        """Return the rows that the epoch trains on, one selection after the other, each in a random order.

        By default every row once. A row may be seen without some of its modalities: in `forward` their features
        are 0. What is returned is a function of the epoch, of weights and of what a checkpoint holds.
        """
        return (EVERY_ROW,)

    def training_step(self, ctx: Context, batch: Batch) -> Scalars:
        """Take one step on a batch and return its detached losses and its accuracy or MAE, each of shape ().

        Where the recipe accumulates gradients, `forward`, `losses` and `backward` see one part of the
        batch after the other, and `modulate` all of it. Of several processes each computes on its rows,
        and its part of the mean losses; gradients are summed before `modulate`, which sees outputs and
        labels of the whole batch. In half precision losses are scaled for `backward`, and the scaling is undone
        before `modulate`; a step whose gradients are not finite is left out.
        """
        ctx.optimizer.zero_grad(set_to_none=True)
        scalars: Scalars = {}
        parts = []
        for part in ctx.parts(batch):
            fraction = len(part.labels) / len(batch.whole.labels)
            outputs = self.forward(ctx, part)
            losses = self.losses(ctx, outputs, part)
            self.backward(ctx, ctx.scaled(losses, fraction))
            for name, loss in losses.items():
                scalars[f"loss_{name}"] = scalars.get(f"loss_{name}", 0) + fraction * loss.detach()
            parts.append(outputs)
        outputs = ctx.all_gather(concatenated(parts), batch)
        ctx.world.sum_gradients(ctx.trainable)
        if ctx.unscaled():
            self.modulate(ctx, outputs, batch.whole)
            ctx.apply_gradients()
        return {**ctx.all_reduce(scalars), **batch_score(outputs.logits, batch.whole.labels), **ctx.take_logged()}

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the model on a batch, with features of 0 where the batch's selection does not let a modality be seen."""
        if batch.seen:
            return ctx.model.forward_seen(batch)
        outputs: Outputs = ctx.model(batch.inputs, batch.lengths, batch.present)
        return outputs

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the named losses, each of shape () and not yet summed: means over the batch's rows.

        A statistic of the batch inside them goes through `ctx.all_reduce` or `ctx.average`, which make it that
        of the whole batch where several processes share one.
        """
        return {"joint": ctx.criterion(outputs.logits, batch.labels)}

    def backward(self, ctx: Context, losses: Losses) -> None:
        """Fill the gradients; by default those of the sum of the losses."""
        total, *rest = losses.values()
        for loss in rest:
            total = total + loss
        total.backward()

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Change the gradients in place, before the optimiser steps.

        Args:
            ctx: the run.
            outputs: those of the whole batch, detached.
            batch: the whole batch; its inputs are missing where several processes share it.
        """

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the logits (B, C) that the method predicts with, and the encoders' features.

        `batch.present` says which rows lack a modality. Features of 0, or a stand-in, are in its place; a method
        that joins logits of single modalities by itself leaves those out, as `leaves_out` says.
        """
        outputs: Outputs = model(batch.inputs, batch.lengths, batch.present)
        return outputs

    def state_dict(self) -> dict[str, Any]:
        """Return the attributes that `state` names."""
        return {name: getattr(self, name) for name in self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the attributes that `state` names, tensors in place, from what `state_dict` returned.

        Raises:
            KeyError: one is missing.
            ValueError: a tensor has another shape.
        """
        for name in self.state:
            setattr(self, name, _restored(getattr(self, name), state[name]))


def own_block(recipe: Recipe) -> tuple[str, Any]:
    """Return the key of the block of a run's method in its recipe, and the settings there."""
    return f"methods.{recipe.method}", recipe.methods[recipe.method].settings


def _restored(present: Any, saved: Any) -> Any:
    """Return a saved value; its tensors are copied into those that are present, on their devices."""
    if isinstance(present, Tensor):
        if present.shape != saved.shape:
            raise ValueError(f"a tensor of shape {tuple(saved.shape)} instead of {tuple(present.shape)}")
        return present.copy_(saved)
    if isinstance(present, Mapping):
        return {key: _restored(present.get(key), value) for key, value in saved.items()}
    return saved


def batch_score(logits: Tensor, labels: Tensor) -> Scalars:
    """Return the share of a batch predicted right by the name "accuracy", or the "mae" of a regression, shape ()."""
    if labels.is_floating_point():
        return {"mae": (logits[:, 0].float() - labels).abs().mean()}
    return {"accuracy": (logits.argmax(dim=1) == labels).float().mean()}


def concatenated(parts: Sequence[Outputs]) -> Outputs:
    """Return the detached outputs of the parts of a batch as those of the whole."""
    features = {m: torch.cat([part.features[m].detach() for part in parts]) for m in parts[0].features}
    return Outputs(features, torch.cat([part.logits.detach() for part in parts]))


class Unimodal(Method):
    """One encoder and one linear head trained alone, under the data and budget of joint training.

    One run per modality: the model is built from that modality only, and everything else is joint
    training. An encoder starts from the weights that it has in joint training with the same seed.
    """

    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it trains one modality; with one modality it is joint training"
    moves: ClassVar[str] = "one encoder and its head, by the optimiser"
    tasks: ClassVar[frozenset[TaskName]] = Method.tasks
    per_modality: ClassVar[bool] = True

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the loss of the rows that have the modality."""
        (modality,) = ctx.model.modalities
        return {"joint": ctx.criterion(outputs.logits, batch.labels, batch.present.get(modality))}


class Window(Method):
    """Base of the methods that act from epoch `starts` to epoch `ends`, both included."""

    class Settings(Method.Settings):
        """What the recipe blocks of these methods have in common."""

        starts: First = 0
        ends: Last

    settings: Settings

    def is_on(self, ctx: Context) -> bool:
        """Return whether the method acts in the present epoch."""
        return self.settings.starts <= ctx.epoch <= self.settings.ends

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where no epoch of the run is in the window."""
        yield from super().warnings(ctx)
        yield from missed(self.settings.starts, self.settings.ends, ctx.epochs)


def missed(starts: int, ends: int, epochs: int) -> Iterator[str]:
    """Yield the warning where a window (from 0, both ends in it) holds no epoch of the run."""
    if max(starts, 0) > min(ends, epochs - 1):
        yield f"it never acts (starts: {starts}, ends: {ends}, {counted(epochs, 'epoch')}): this is joint training"
