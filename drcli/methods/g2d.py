"""Gradient-guided distillation (Rakib, Bagavathi; ICCV 2025, arXiv 2506.21514)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, Scalars
from drcli.methods.context import Context
from drcli.methods.parts.gradients import trainable
from drcli.methods.parts.teachers import Teachers, distillation, feature_distances
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.models.fusion import Outputs
from drcli.models.multimodal import over_rows, rest_frozen
from drcli.names import TEACHERS


class G2D(Method):
    """Distillation from the unimodal runs, and a phase in which the strongest modality stands still.

        L = CE(z, y) + sum over m of [ logit_weight * T^2 * KL(softmax(t_m / T) || softmax(z / T))
                                     + feature_weight * MSE(h_m, h_m^teacher) ]

    t_m and h_m^teacher are logits and features of the unimodal run of modality m. In the epochs e < phase * E the
    encoder of the modality whose TEACHER gives the true class the largest mean probability is not trained: on the
    training rows (`ranking: train`), or on each batch. Of equals none stands still. `stand_still: frozen` gives it no
    gradient, and runs it in evaluation mode, so that neither its parameters nor its statistics move. With three
    modalities or more the strongest alone stands still (ours); with one, none does.

    Differences from the authors' code (`ranking: batch, stand_still: zero_gradients`): it sets the gradients of the
    convolutions to zero, which momentum and weight decay move all the same; it refuses equal scores with an error;
    it selects teachers and student on the test split. It averages the logits of two heads; here any fusion works,
    and `sum` has the same functions.
    """

    class Settings(Method.Settings):
        """The recipe block of `g2d`; the defaults are the authors'."""

        logit_weight: Annotated[NonNegativeFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="weight of the divergence from each teacher's predictions"
        )
        feature_weight: Annotated[NonNegativeFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="weight of the distance to each teacher's features"
        )
        temperature: Annotated[PositiveFloat, Search(0.5, 8, log=True)] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="T: logits are divided by it before the divergence is taken"
        )
        phase: Annotated[float, Search(0.1, 0.9)] = Field(
            0.5,
            ge=0,
            le=1,
            description="part of the epochs, from the first, in which the strongest modality stands still",
        )
        ranking: Literal["train", "batch"] = Field(
            "train", description="the strongest teacher: over the training rows, or (authors' code) in each batch"
        )
        stand_still: Literal["frozen", "zero_gradients"] = Field(
            "frozen",
            description="frozen: the encoder does not change; zero_gradients: the gradients of its 4-d tensors are 0 "
            "(authors' code), but momentum, weight decay and batch normalisation change it",
        )

    year: ClassVar[int | None] = 2025
    requires: ClassVar[frozenset[str]] = frozenset({TEACHERS})
    neutral: ClassVar[Mapping[str, Any] | None] = {"logit_weight": 0.0, "feature_weight": 0.0, "phase": 0.0}
    moves: ClassVar[str] = "every encoder and the fusion, by the optimiser; the strongest encoder after the phase alone"

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Take the unimodal runs."""
        self.teachers = Teachers(ctx)
        self.ranked = False
        self.strongest: str | None = None

    def on_epoch_start(self, ctx: Context) -> None:
        """Rank the unimodal runs before the first epoch that needs it, of a resumed run as well."""
        if self.settings.ranking == "train" and not self.ranked and self._in_phase(ctx):
            self.strongest, self.ranked = strongest(self._train_scores(ctx)), True

    def _in_phase(self, ctx: Context) -> bool:
        return len(ctx.model.modalities) > 1 and ctx.epoch < self.settings.phase * ctx.epochs

    def _train_scores(self, ctx: Context) -> dict[str, Tensor]:
        logits = over_rows(ctx.train, ctx.eval_batch_size, lambda b: self.teachers.logits(self.teachers.features(b)))
        return right_scores({m: logits[m] for m in ctx.model.modalities}, ctx.train.split.labels)

    def training_step(self, ctx: Context, batch: Batch) -> Scalars:
        """Take one step in which the strongest modality stands still, while the phase lasts."""
        if not self._in_phase(ctx):
            self.still = None
            return super().training_step(ctx, batch)
        if self.settings.ranking == "batch":
            scores = right_scores(self.teachers.logits(self.teachers.features(batch)), batch.labels)
            self.strongest = strongest(ctx.all_reduce(scores))
        self.still = self.strongest
        for m in ctx.model.modalities:
            ctx.log(f"coefficient/{m}", torch.full((), float(m != self.still), device=ctx.device))
        if self.still is None or self.settings.stand_still == "zero_gradients":
            return super().training_step(ctx, batch)
        with frozen(ctx.model.encoders[self.still]):
            return super().training_step(ctx, batch)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss and those of the distillation, each of shape ()."""
        losses, settings = super().losses(ctx, outputs, batch), self.settings
        if settings.logit_weight == settings.feature_weight == 0:
            return losses
        features = self.teachers.features(batch)
        if settings.logit_weight > 0:
            for m, t in self.teachers.logits(features).items():
                losses[f"logits_{m}"] = settings.logit_weight * distillation(outputs.logits, t, settings.temperature)
        if settings.feature_weight > 0:
            for m, distance in feature_distances(outputs.features, features, "mean").items():
                losses[f"features_{m}"] = settings.feature_weight * distance
        return losses

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Set the gradients of the strongest encoder's convolutions to zero, if this is how it stands still."""
        if self.still is not None and self.settings.stand_still == "zero_gradients":
            for parameter in ctx.model.encoders[self.still].parameters():
                if parameter.grad is not None and parameter.dim() == 4:
                    parameter.grad.zero_()


def strongest(scores: Mapping[str, Tensor]) -> str | None:
    """Return the modality of the largest score; None if two or more have it."""
    values = {m: score.item() for m, score in scores.items()}
    best = [m for m, value in values.items() if value == max(values.values())]
    return best[0] if len(best) == 1 else None


@contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Let an encoder take no gradient, in evaluation mode, and be trained again after."""
    trained = trainable(encoder)
    encoder.eval()
    encoder.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        encoder.train()
        rest_frozen(encoder)
