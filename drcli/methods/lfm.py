"""LFM, dynamically learning the modality gap (NeurIPS 2024, OpenReview QbsPz0SnyV)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch, Batches
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.divergence import Divergence, mean_divergence
from drcli.methods.parts.gradients import gradients_of, inner_product, trainable
from drcli.methods.parts.unimodal_scores import not_offered, offered
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating

FITTED = (2.04623704e-1, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)
"""Coefficients of the authors' polynomial for the weight of the cross-entropy, by powers of the epoch of 200.

All of their digits count: with five of them the weight of the last epochs is off by 0.005.
"""

FITTED_EPOCHS = 200

Share = Annotated[float, Field(ge=0, le=1)]


class LFM(Method):
    """Alignment of the modalities' predictions first, classification later, by a weight that changes per epoch.

        L = (1 - a) CE(z, y) + a * mean over pairs m < n of D(softmax(z_m), softmax(z_n))

    D is the Jensen-Shannon divergence (p against q: KL(p || (p + q) / 2) / 2 + KL(q || (p + q) / 2) / 2, in nats,
    mean over the batch). The weight a of an epoch:

    - learned: it starts at `start`, and before every epoch but the first a <- clip(a - rate * g, `low`, 1 - `low`),
      rate = `rate` halved every `halve` epochs, g = d/da of the cross-entropy on held-out rows after one step of
      gradient descent on L, per unit of its learning rate: g = -<grad CE(held out), grad D - grad CE>, over all
      encoders and the fusion, in evaluation mode, without augmentation, on `rows` validation rows and as many
      training rows that are drawn anew every epoch.
    - fitted: 1 less the authors' polynomial in the epoch, scaled from their 200 epochs to those of the run; 0 where
      that is negative.
    - fixed: `start`.

    z are the fused logits and predict; z_m come from the fusion. With one modality it is joint training.

    Differences from the authors' code: it doubles the loss; kl_div with its arguments exchanged makes D there
    KL of the mixture against p and q (`divergence: reversed`), infinite where p is 0; its g is the mean of the
    first parameter tensor's product of Hessian and gradient, on eight fixed training clips that are held out, and
    is followed before the first epoch too; its polynomial is above 1 for a while, where the alignment is rewarded
    for being far.
    """

    class Settings(Method.Settings):
        """The recipe block of `lfm`; the numbers are the authors' on CREMA-D."""

        schedule: Literal["learned", "fitted", "fixed"] = Field(
            "learned", description="how the weight of the alignment changes from epoch to epoch; fixed: it stays"
        )
        start: Annotated[Share, Search(0.5, 0.99)] = Field(
            0.95, description="weight of the alignment at first; the cross-entropy has 1 less this"
        )
        low: Annotated[float, Field(ge=0, le=0.5)] = Field(
            0.05, description="schedule learned: least weight of either loss"
        )
        rate: Annotated[NonNegativeFloat, Search(1e-5, 0.1, log=True, when={"schedule": "learned"})] = Field(
            1e-4, le=1e6, description="schedule learned: step size of the weight"
        )
        halve: Annotated[int, Field(gt=0, le=1_000_000)] = Field(
            20, description="schedule learned: epochs after which the step size is halved, again and again"
        )
        rows: Annotated[int, Field(gt=1, le=65_536)] = Field(
            16, description="schedule learned: validation rows, and training rows, that a step of the weight looks at"
        )
        divergence: Divergence = "js"
        unimodal_logits: Literal["slice", "head", "zero_others"] = Field(
            "slice", description="where the logits of one modality come from: the fusion, if it offers them"
        )

    masks_reason: ClassVar[str] = "it aligns the predictions of a row's modalities, of which each must have them all"
    year: ClassVar[int | None] = 2024
    neutral: ClassVar[Mapping[str, Any] | None] = {"schedule": "fixed", "start": 0.0}
    state: ClassVar[tuple[str, ...]] = ("alignment",)
    distributed_reason: ClassVar[str] = "the weight of its losses is learned from the gradients of one process"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unimodal logits that the fusion does not offer."""
        _, settings = own_block(recipe)
        yield from not_offered(recipe, settings.unimodal_logits, offered(recipe))

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, where the curve spans all epochs."""
        fitted = own_block(recipe)[1].schedule == "fitted"
        return "with schedule: fitted spreads its weights over all epochs" if fitted else ""

    def setup(self, ctx: Context) -> None:
        """Start with the weight of the settings."""
        self.alignment = self.settings.start

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where there is nothing to align."""
        if len(ctx.model.modalities) == 1:
            yield "one modality has nothing to align with: this is joint training"

    def on_epoch_start(self, ctx: Context) -> None:
        """Set the weight of the epoch."""
        if len(ctx.model.modalities) == 1:
            self.alignment = 0.0
        elif self.settings.schedule == "fitted":
            self.alignment = 1 - fitted_weight(FITTED_EPOCHS * ctx.epoch / ctx.epochs)
        elif self.settings.schedule == "learned" and ctx.epoch > 0:
            rate = self.settings.rate * 0.5 ** (ctx.epoch // self.settings.halve)
            found = self.alignment - rate * self._slope(ctx)
            self.alignment = min(max(found, self.settings.low), 1 - self.settings.low)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the weighted cross-entropy and alignment."""
        ctx.log("coefficient/alignment", torch.full((), self.alignment, device=ctx.device))
        losses = {"joint": (1 - self.alignment) * functional.cross_entropy(outputs.logits, batch.labels)}
        if self.alignment > 0:
            losses["alignment"] = self.alignment * self._divergence(ctx, outputs)
        return losses

    def _divergence(self, ctx: Context, outputs: Outputs) -> Tensor:
        logits = ctx.model.unimodal_logits(outputs.features, self.settings.unimodal_logits)
        pairs = combinations([logits[m] for m in sorted(logits)], 2)
        return mean_divergence(list(pairs), self.settings.divergence)

    def _slope(self, ctx: Context) -> float:
        """Return g, from rows of the epoch's own draw."""
        parameters = trainable(ctx.model)
        with evaluating(ctx.model), torch.enable_grad():
            outputs, labels = self._drawn(ctx, ctx.val)
            held_out = functional.cross_entropy(outputs.logits, labels)
            outputs, labels = self._drawn(ctx, ctx.train)
            change = self._divergence(ctx, outputs) - functional.cross_entropy(outputs.logits, labels)
            return -inner_product(gradients_of(held_out, parameters), gradients_of(change, parameters))

    def _drawn(self, ctx: Context, batches: Batches) -> tuple[Outputs, Tensor]:
        """Return outputs and labels of `rows` rows of a split."""
        generator = ctx.generator("lfm", batches.split.name)
        batch = batches.take(torch.randperm(len(batches), generator=generator)[: self.settings.rows])
        return ctx.model(batch.inputs, batch.lengths, batch.present), batch.labels


def fitted_weight(epoch: float) -> float:
    """Return the authors' polynomial for the weight of the cross-entropy at an epoch from 0 of 200, within [0, 1]."""
    value = sum(coefficient * epoch**power for power, coefficient in enumerate(FITTED))
    return min(max(value, 0.0), 1.0)
