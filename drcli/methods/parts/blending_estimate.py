"""What gradient blending measures: how each head generalises and overfits when it is trained alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from drcli.data.batches import Batch, Batches
from drcli.errors import RunError
from drcli.methods.base import Method
from drcli.methods.context import Context
from drcli.metrics import score
from drcli.models.backbone import Backbone
from drcli.models.fusion import Concat
from drcli.models.inference import evaluating, over_rows
from drcli.models.multimodal import MultimodalModel
from drcli.optim import learning_rate, set_learning_rate
from drcli.seeding import seed_global

JOINT = "joint"
"""The head that is the fusion; the others are called as their modalities."""


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
        ctx: the run; the schedule of its learning rate goes on from its present epoch.
        heads: linear heads by modality.
        epochs: length of the temporary trainings.

    Raises:
        RunError: a loss is not finite.
    """
    growths = {}
    for k in (*ctx.model.modalities, JOINT):
        with _undisturbed(ctx.device):
            growths[k] = _grow(_trial(ctx, _copied(ctx.model, heads, k), k), epochs)
        if not math.isfinite(growths[k].gain + growths[k].overfitting):
            raise RunError(
                f"epoch {ctx.epoch}: the loss of head {k} alone is not finite after {epochs} epochs; the run stops. "
                "Lower training.optimizer.lr, or set training.clip_grad_norm"
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


def _trial(ctx: Context, model: MultimodalModel, k: str) -> Context:
    """A run of its own from this epoch on: own optimiser, own streams of random numbers."""
    parameters = list(model.parameters())
    return Context(
        model=model,
        optimizer=ctx.new_optimizer(parameters),
        trainable=parameters,
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
        rate = learning_rate(training.schedule, training.optimizer.lr, epoch, training.epochs)
        set_learning_rate(trial.optimizer, rate)
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
        return {"logits": trial.model(batch.inputs, batch.lengths).logits}

    with evaluating(trial.model):
        found = over_rows(batches, trial.eval_batch_size, predict)
    return score(found["logits"], batches.split.labels, batches.split.weight).loss
