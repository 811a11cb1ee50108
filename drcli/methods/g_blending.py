"""Gradient blending (Wang, Tran, Feiszli; CVPR 2020, arXiv 1905.12681)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch, Batches
from drcli.errors import RunError
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.unimodal_scores import apply_heads, linear_heads
from drcli.metrics import score
from drcli.models.backbone import Backbone
from drcli.models.fusion import Concat, Fusion, Outputs
from drcli.models.multimodal import MultimodalModel, over_rows
from drcli.names import FUSIONS
from drcli.optim import LossScaler, set_learning_rates
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating
from drcli.seeding import seed_global

JOINT = "joint"
"""The head that is the fusion; the others are called as their modalities."""


class GBlending(Method):
    """Cross-entropies of every modality's own linear head and of the fusion, blended by weights.

        L = sum over k of w_k CE(z_k, y)        k: the modalities, and "joint"
        w_k = (1/Z) dG_k / dO_k^2               sum over k of w_k = 1
        dG_k = L_val - L_val'                   generalisation gained in n epochs of training head k alone
        dO_k = O_k' - O_k,  O = L_val - L_train overfitting grown

    Head k alone is encoder k with its linear head, or the whole model with the fusion; it is a temporary
    copy of the present weights, with an optimiser and a data order of its own. Losses are means over the
    samples of the whole train and val splits, in evaluation mode. `online` estimates anew before every
    super-epoch, over its length; `offline` once, from the initial weights. The fused logits predict.

    Differences from public implementations: the authors released weights only, not the estimation.
    MultiBench weighs by L_val / O^2 and turns the sign of a head that gets worse; here its weight is 0
    (equal weights if every head gets worse). The paper does not say what to do where dO is near 0: `floor`.
    """

    class Settings(Method.Settings):
        """The recipe block of `g_blending`."""

        mode: Literal["online", "offline", "fixed"] = Field(
            "online",
            description="when the weights of the losses are estimated; online: before each super-epoch; "
            "offline: once at the start; fixed: never, `weights` gives them",
        )
        super_epoch: Annotated[PositiveInt, Search(2, 20, log=True, when={"mode": "online"})] = Field(
            10, le=1_000_000, description="mode online: epochs between two estimations"
        )
        estimate_epochs: PositiveInt | None = Field(
            None, le=1_000_000, description="mode offline: epochs of the estimation; null: as many as the run has"
        )
        weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None = Field(
            None, description="mode fixed: weight of the loss of each modality and of joint; 0 for those left out"
        )
        floor: PositiveFloat = Field(
            1e-4, le=1e6, description="smallest |dO| that an estimation divides by; smaller ones are raised to it"
        )

    year: ClassVar[int | None] = 2020
    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    neutral: ClassVar[Mapping[str, Any] | None] = {"mode": "fixed", "weights": {"joint": 1.0}}
    state: ClassVar[tuple[str, ...]] = ("weights", "growths")
    moves: ClassVar[str] = (
        "every encoder, the fusion and one head per modality, by the optimiser; a loss of weight 0 moves nothing"
    )

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse settings that contradict each other, and fusions without encoders that run alone."""
        key, settings = own_block(recipe)
        yield from ((f"{key}.weights", message) for message in _of_weights(settings, recipe))
        if settings.estimate_epochs is not None and settings.mode != "offline":
            yield f"{key}.estimate_epochs", f"is for mode offline, not {settings.mode}; leave it out"
        elif (settings.estimate_epochs or 0) > recipe.training.epochs:
            yield f"{key}.estimate_epochs", f"must not be more than training.epochs, {recipe.training.epochs}"
        if FUSIONS.load(recipe.fusion.name).encode is not Fusion.encode:
            late = [name for name in FUSIONS.names() if FUSIONS.load(name).encode is Fusion.encode]
            yield key, f"g_blending trains every encoder alone, too: fusion={' or '.join(late)}"

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, where an estimation looked no further than the last epoch."""
        settings = own_block(recipe)[1]
        if settings.mode == "offline" and settings.estimate_epochs is None:
            return "with estimate_epochs: null estimates its weights over all epochs"
        cut = settings.mode == "online" and recipe.training.epochs % settings.super_epoch != 0
        return "made its last estimation over fewer epochs than super_epoch" if cut else ""

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return one linear head per modality."""
        self.heads = linear_heads(model)
        return {"heads": self.heads}

    def setup(self, ctx: Context) -> None:
        """Take the fixed weights; estimated ones come before the first epoch."""
        given = self.settings.weights or {}
        self.weights = {k: given.get(k, 0.0) for k in (*ctx.model.modalities, JOINT)}
        self.growths: dict[str, list[float]] = {}  # dG and dO, which the weights come from

    def on_epoch_start(self, ctx: Context) -> None:
        """Estimate the weights when the mode says so."""
        epochs = self.horizon(ctx.epoch, ctx.epochs)
        if epochs > 0:
            growths = estimate(ctx, self.heads, epochs)
            self.weights = blending_weights(growths, self.settings.floor)
            self.growths = {k: [growth.gain, growth.overfitting] for k, growth in growths.items()}

    def horizon(self, epoch: int, epochs: int) -> int:
        """Over how many epochs to estimate before epoch `epoch` (from 0) of `epochs`; 0: not now."""
        if self.settings.mode == "online" and epoch % self.settings.super_epoch == 0:
            return min(self.settings.super_epoch, epochs - epoch)
        if self.settings.mode == "offline" and epoch == 0:
            return self.settings.estimate_epochs or epochs
        return 0

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the weighted losses by head, without those of weight 0."""
        for k, weight in self.weights.items():
            ctx.log(f"coefficient/{k}", torch.full((), weight, device=ctx.device))
        logits = {**apply_heads(self.heads, outputs.features), JOINT: outputs.logits}
        return {
            k: weight * functional.cross_entropy(logits[k], batch.labels)
            for k, weight in self.weights.items()
            if weight > 0
        }


def _of_weights(settings: GBlending.Settings, recipe: Recipe) -> Iterator[str]:
    """What is wrong with `weights`, if anything."""
    names = (*recipe.modalities, JOINT)
    given = settings.weights or {}
    unknown = [name for name in given if name not in names]
    if settings.mode != "fixed" and settings.weights is not None:
        yield f"is for mode fixed, not {settings.mode}; leave it out"
    elif unknown:
        yield f"knows {', '.join(names)}; not {', '.join(unknown)}"
    elif settings.mode == "fixed" and not any(given.values()):
        yield f"must give mode fixed a weight above 0 to one at least of {', '.join(names)}"


@dataclass(frozen=True)
class Growth:
    """What some epochs of training alone did to a head.

    Attributes:
        gain: dG = L_val before - L_val after.
        overfitting: dO = O after - O before, with O = L_val - L_train.
    """

    gain: float
    overfitting: float


def blending_weights(growths: Mapping[str, Growth], floor: float) -> dict[str, float]:
    """Return w_k = (1/Z) dG_k / dO_k^2, which add up to 1 (Wang et al. 2020, proposition 1).

    A head that got worse on validation gets 0; if all did, the weights are equal.

    Args:
        growths: by head.
        floor: a smaller |dO_k| counts as this, above 0.
    """
    raw = {k: max(growth.gain, 0.0) / max(abs(growth.overfitting), floor) ** 2 for k, growth in growths.items()}
    total = math.fsum(raw.values())
    return {k: value / total if total > 0 else 1 / len(raw) for k, value in raw.items()}


def estimate(ctx: Context, heads: nn.ModuleDict, epochs: int) -> dict[str, Growth]:
    """Return the growth of every head over `epochs` epochs from the present weights; nothing is changed.

    Args:
        ctx: the run; the schedule of its learning rate continues from the current epoch.
        heads: linear heads by modality.
        epochs: length of the temporary trainings.

    Raises:
        RunError: a loss is not finite.
    """
    growths = {}
    for k in (*ctx.model.modalities, JOINT):
        with _undisturbed(ctx.device):
            originals = ctx.model if k == JOINT else nn.ModuleList([ctx.model.encoders[k], heads[k]])
            growths[k] = _grow(_trial(ctx, _copied(ctx.model, heads, k), list(originals.parameters()), k), epochs)
        if not math.isfinite(growths[k].gain + growths[k].overfitting):
            raise RunError(
                f"epoch {ctx.epoch}: the loss of head {k} alone is not finite after {counted(epochs, 'epoch')}; the "
                "run stops. Lower training.optimizer.lr, or set training.clip_grad_norm"
            )
    return growths


@contextmanager
def _undisturbed(device: torch.device) -> Iterator[None]:
    """Put torch's global generators, of the CPU and of the device, back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _copied(model: MultimodalModel, heads: nn.ModuleDict, k: str) -> MultimodalModel:
    """A copy of what feeds head k: all of the model, or one encoder and its linear head."""
    if k == JOINT:
        return copy.deepcopy(model)
    head = Concat(Concat.Settings(), {k: model.fusion.widths[k]}, model.fusion.num_classes)
    head.linear = cast("nn.Linear", copy.deepcopy(heads[k]))
    encoder = cast("Backbone", copy.deepcopy(model.encoders[k]))
    return MultimodalModel({k: encoder}, head, model.precision)


def _trial(ctx: Context, model: MultimodalModel, originals: Sequence[nn.Parameter], k: str) -> Context:
    """A run of its own from this epoch on: own optimiser, own streams of random numbers."""
    parameters = list(model.parameters())
    return Context(
        model=model,
        optimizer=ctx.new_optimizer(parameters, originals),
        trainable=parameters,
        scaler=None if ctx.scaler is None else LossScaler(ctx.device),
        train=ctx.train,
        val=ctx.val,
        num_classes=ctx.num_classes,
        eval_batch_size=ctx.eval_batch_size,
        seed=ctx.derive("estimate", k),
        device=ctx.device,
        training=ctx.training,
        world=ctx.world,
        epoch=ctx.epoch,
    )


def _grow(trial: Context, epochs: int) -> Growth:
    """Train a temporary model by its cross-entropy alone and return what that did to its losses."""
    val_before, train_before = (_loss(trial, batches) for batches in (trial.val, trial.train))
    training, method = trial.training, Method(Method.Settings())
    for epoch in range(trial.epoch, trial.epoch + epochs):
        trial.epoch = epoch
        set_learning_rates(trial.optimizer, training.schedule, epoch, training.epochs)
        seed_global(trial.seed, "epoch", epoch, *trial.world.stream)
        order, augment = (trial.generator(name) for name in ("order", "augment"))
        trial.model.train()
        for batch in trial.train.shuffled(training.batch_size, order, augment):
            method.training_step(trial, batch)
    val, train = (_loss(trial, batches) for batches in (trial.val, trial.train))
    return Growth(gain=val_before - val, overfitting=(val - train) - (val_before - train_before))


def _loss(trial: Context, batches: Batches) -> float:
    """Mean cross-entropy over the samples of a whole split, in evaluation mode."""

    def predict(batch: Batch) -> dict[str, Tensor]:
        return {"logits": trial.model(batch.inputs, batch.lengths, batch.present).logits}

    with evaluating(trial.model):
        found = over_rows(batches, trial.eval_batch_size, predict)
    return score(found["logits"], batches.split.labels, batches.split.weight).loss
