"""Diagnosing & Re-learning (Wei, Li, Feng, Hu; ECCV 2024, arXiv 2407.09705)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import nn

from drcli.diagnosis import snapshot, soft_reinitialise
from drcli.diagnosis.settings import GapSettings
from drcli.methods.base import Event, Method
from drcli.methods.context import Context


class DiagnoseRelearn(Method):
    """Joint training that is diagnosed every H epochs, each encoder then pulled towards its start.

    After the evaluation and the checkpoint of epoch e, if e > 0 and e % every == 0 and fewer than
    `times` events have happened and e is not the last epoch, for every modality k

        g^k = |P_D^k - P_V^k|           purity gap of train and validation clusterings
        a^k = tanh(lambda * g^k)        re-learning strength
        theta^k <- a^k theta_init^k + (1 - a^k) theta^k, over the encoder's parameters

    Fusion and head are not touched. Right after the pull the diagnosis is made once more, for the log: what gap
    the encoders were left with.

    Differences from the authors' released code: training and
    diagnosis use the splits and the augmentation that every other method uses, and the features of
    the training set are taken in stored order with evaluation transforms, so that a diagnosis does not
    shift the data order that follows it.
    """

    class Settings(GapSettings, Method.Settings):
        """The recipe block of `diagnose_relearn`; the defaults are the authors' behaviour on CREMA-D."""

        every: PositiveInt = Field(20, le=1_000_000, description="H: epochs between two diagnoses")
        times: NonNegativeInt = Field(3, le=1_000_000, description="largest number of re-learnings; 0: none")
        optimizer_state: Literal["keep", "reset_encoder", "reset"] = Field(
            "keep",
            description="state of the optimiser, such as momentum, at a re-learning; keep: unchanged; "
            "reset_encoder: cleared for the encoders; reset: cleared for all",
        )
        bn_buffers: Literal["keep", "blend", "recompute"] = Field(
            "keep",
            description="running statistics of batch normalisation at a re-learning; keep: unchanged; "
            "blend: pulled like the weights; recompute: measured again on the training data",
        )

    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"lambda": 0.0}
    state: ClassVar[tuple[str, ...]] = ("initial", "events")
    moves: ClassVar[str] = "every encoder and the fusion, by the optimiser; every encoder, by re-learning"

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Keep a copy of the encoders as they are before the first step."""
        self.initial = {m: snapshot(encoder) for m, encoder in ctx.model.encoders.items()}
        self.events = 0

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn if the schedule has no event: the run is joint training then."""
        if not any(self.is_due(epoch, ctx.epochs) for epoch in range(ctx.epochs)) and self.events == 0:
            yield (
                f"no re-learning will happen (every: {self.settings.every}, times: {self.settings.times}, "
                f"{ctx.epochs} epochs): this is joint training"
            )

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Diagnose and re-learn when the schedule says so."""
        if not self.is_due(ctx.epoch, ctx.epochs):
            return None
        diagnoses = ctx.diagnose(self.settings, self.settings.lambda_)
        for m, diagnosis in diagnoses.items():
            self.relearn(ctx, m, diagnosis.strength)
        if any(diagnosis.strength > 0 for diagnosis in diagnoses.values()):
            self._after_relearning(ctx)
        self.events += 1
        left = ctx.diagnose(self.settings, self.settings.lambda_)
        return Event("relearn", diagnoses, left, self.events, self.settings.lambda_)

    def is_due(self, epoch: int, epochs: int) -> bool:
        """Whether an event follows epoch `epoch` (from 0) of `epochs`."""
        return 0 < epoch < epochs - 1 and epoch % self.settings.every == 0 and self.events < self.settings.times

    def relearn(self, ctx: Context, modality: str, strength: float) -> None:
        """Pull one encoder towards its initial weights."""
        buffers: Literal["keep", "blend"] = "blend" if self.settings.bn_buffers == "blend" else "keep"
        soft_reinitialise(ctx.model.encoders[modality], self.initial[modality], strength, buffers=buffers)

    def _after_relearning(self, ctx: Context) -> None:
        ctx.weights_changed()
        if self.settings.bn_buffers == "recompute":
            recompute_batch_statistics(ctx)
        if self.settings.optimizer_state == "reset":
            ctx.optimizer.state.clear()
        elif self.settings.optimizer_state == "reset_encoder":
            for parameter in ctx.model.encoders.parameters():
                ctx.optimizer.state.pop(parameter, None)


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recompute_batch_statistics(ctx: Context) -> None:
    """Replace the encoders' running statistics by those of one pass over the training rows.

    Only layers of batch normalisation run in training mode, so that nothing random is drawn. Of several
    processes each passes all rows: means are the same, and variances except for the share of the rows by which
    an unbiased estimate corrects them.
    """
    layers = [layer for layer in ctx.model.encoders.modules() if isinstance(layer, BATCH_NORMS)]
    before = [(layer.momentum, layer.training) for layer in layers]
    mode = ctx.model.training
    ctx.model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average over the pass
        layer.train()
    with torch.no_grad():
        for batch in ctx.train.in_order(ctx.eval_batch_size):
            ctx.model.encode(batch.inputs, batch.lengths)
    ctx.model.train(mode)
    for layer, (momentum, training) in zip(layers, before, strict=True):
        layer.momentum = momentum
        layer.training = training
