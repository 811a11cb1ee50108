"""ReconBoost (Hua, Xu, Bao, Yang, Huang; ICML 2024, arXiv 2405.09321)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, Stage
from drcli.methods.context import Context
from drcli.methods.parts.boosted import Boosted
from drcli.methods.parts.residual import residual_loss
from drcli.methods.parts.shared_head import unequal_widths
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe


class ReconBoost(Method):
    """Gradient boosting over modalities, each of which learns in turn what the others leave.

    With z_m = head(h_m) through one shared head, f = rate * sum of the z_m of the members, p_m = softmax(z_m),
    stage s = 0, 1, ... picks the modality m number s mod M, in the order of their names. For `alone` epochs
    encoder m and the head minimise, q = softmax(f without m) and p of the modality picked before held constant,

        mean over i of -(w1 - w2 q_i(y_i)) / C * log p_m,i(y_i)  +  agreement * MSE(p_m, p_before)

    then for `together` epochs the encoders of all members, the head and the rate minimise CE(f, y). Either part
    starts without momentum; what it does not train stands still, its statistics of batch normalisation too. A
    modality is a member from the stage that picks it first (`members: picked`), or all are from the start. f of
    no members is 0, so that q is 1 / C. f predicts. The agreement begins with the second stage; MSE is the mean
    over samples and classes. The fusion of the recipe is not used. Two modalities or more, of equal width.

    An epoch is one pass over the training rows by the encoders that it trains: with M modalities, all members,
    an encoder takes (alone / M + together) / (alone + together) of the passes of joint training.

    Differences from the authors' code: there the agreement has no gradient, since both sides are detached
    (`agreement: 0` is the same); q of the first stage is 1, not 1 / C, a softmax over one number; encoders that
    are not trained update their batch statistics; the picked modality before is the only other one.
    """

    class Settings(Method.Settings):
        """The recipe block of `reconboost`; the defaults are the authors' on CREMA-D."""

        alone: PositiveInt = Field(4, le=1_000_000, description="epochs of a stage in which one modality is trained")
        together: NonNegativeInt = Field(
            4, le=1_000_000, description="epochs of a stage, after these, in which all members are trained"
        )
        w1: Annotated[PositiveFloat, Search(1, 20, log=True)] = Field(
            5.0, le=1e6, description="weight of the cross-entropy of the picked modality"
        )
        w2: Annotated[NonNegativeFloat, Search(0.1, 2)] = Field(
            1.0, le=1e6, description="how much of it is taken off where the others are right"
        )
        agreement: Annotated[NonNegativeFloat, Search(0.05, 5, log=True)] = Field(
            0.5, le=1e6, description="weight of the distance to the predictions of the modality picked before; 0: none"
        )
        rate: PositiveFloat = Field(1.0, le=1e6, description="boosting rate at the start; it is trained")
        hidden: NonNegativeInt = Field(
            256, le=65_536, description="width of the shared head's hidden layer; 0: one linear layer"
        )
        members: Literal["picked", "all"] = Field(
            "picked", description="who takes part in the sum; picked: from its first stage on; all: from the start"
        )

    leaves_out: ClassVar[bool] = True
    compiled: ClassVar[bool] = False
    year: ClassVar[int | None] = 2024
    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "it trains in stages, with a head that joint training does not have"
    moves: ClassVar[str] = (
        "in turn one encoder and a shared head, then all encoders, the head and a rate; the fusion is not used"
    )

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse features of unequal widths."""
        yield from unequal_widths(recipe)

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the shared head with the rate, and what notes who is a member."""
        self.boosted = Boosted(model, self.settings.hidden, self.settings.rate)
        return {"boosted": self.boosted}

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where the run ends before every modality was picked."""
        stages = -(-ctx.epochs // (self.settings.alone + self.settings.together))
        if stages < len(ctx.model.modalities):
            names = ", ".join(sorted(ctx.model.modalities)[stages:])
            yield f"never picked: {names} ({counted(ctx.epochs, 'epoch')}, {counted(stages, 'stage')})"

    def stage(self, ctx: Context) -> Stage:
        """Return the part of the stage that the epoch is in."""
        first = ctx.epoch - self._place(ctx.epoch)
        if self.is_alone(ctx.epoch):
            return Stage(first, frozenset({self.picked(ctx), "boosted"}))
        return Stage(first + self.settings.alone, frozenset({*self.members(ctx), "boosted"}))

    def on_epoch_start(self, ctx: Context) -> None:
        """Let the members join."""
        for m in self.members(ctx):
            self.boosted.join(m)

    def is_alone(self, epoch: int) -> bool:
        """Return whether one modality is trained in an epoch, not all members."""
        return self._place(epoch) < self.settings.alone

    def _place(self, epoch: int) -> int:
        return epoch % (self.settings.alone + self.settings.together)

    def picked(self, ctx: Context, back: int = 0) -> str:
        """Return the modality that the present stage picks, or the stage so many before it."""
        number = ctx.epoch // (self.settings.alone + self.settings.together) - back
        return sorted(ctx.model.modalities)[number % len(ctx.model.modalities)]

    def members(self, ctx: Context) -> Sequence[str]:
        """Return the modalities in the sum, in the order of their names."""
        count = ctx.epoch // (self.settings.alone + self.settings.together) + 1
        return sorted(ctx.model.modalities)[: count if self.settings.members == "picked" else None]

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the encoders of the members, and sum."""
        features = ctx.model.encode_alone({m: batch.inputs[m] for m in self.members(ctx)}, batch.lengths, batch.present)
        return Outputs(features, self.boosted(features, present=batch.present))

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the loss of the picked modality with its agreement, or the cross-entropy of the sum."""
        ctx.log("boosting_rate", self.boosted.rate)
        if not self.is_alone(ctx.epoch):
            return {"sum": functional.cross_entropy(outputs.logits, batch.labels)}
        picked = self.picked(ctx)
        logits = self.boosted.head(outputs.features[picked])
        with torch.no_grad():
            others = self.boosted(outputs.features, without={picked}, present=batch.present)
        w1, w2 = self.settings.w1, self.settings.w2
        losses = {"residual": w1 / logits.shape[1] * residual_loss(logits, others, batch.labels, w2 / w1)}
        before = self.picked(ctx, back=1)
        if self.settings.agreement > 0 and before in outputs.features and self.stage(ctx).first > 0:
            with torch.no_grad():
                target = self.boosted.head(outputs.features[before]).softmax(dim=1)
            losses["agreement"] = self.settings.agreement * functional.mse_loss(logits.softmax(dim=1), target)
        return losses

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the boosted sum (B, C), and all encoders' features."""
        features = model.encode_alone(batch.inputs, batch.lengths, batch.present)
        return Outputs(features, self.boosted(features, present=batch.present))
