"""Detached and interactive multimodal learning (Fan, Xu, Wang, Liu, Guo; ACM MM 2024, arXiv 2407.19514)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, Stage, own_block
from drcli.methods.context import Context
from drcli.methods.parts.detached import FUSED, DetachedHeads, effective, lessons, one_way_contrast
from drcli.methods.parts.late_fusion import not_late
from drcli.methods.parts.shared_head import unequal_widths
from drcli.methods.parts.unimodal_scores import apply_heads
from drcli.methods.parts.weighted import weighted_logits
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.schema import Recipe


class DIMML(Method):
    """No fused loss reaches an encoder; a shared head and one-way contrasts let encoders learn of one another.

    First stage, z_m from a head of m's own, s_m from one that all modalities share, both linear:

        L = sum over m of CE(z_m, y) + weight * CE(s_m, y)
          + sum over ordered pairs (m, n) of InfoNCE(h_n[:, I], stopgrad h_m[:, I])      from epoch `contrast_from` on

    I are the dimensions that are effective in m and not in n: the share of training rows whose nearest class mean
    in this one dimension is their class is above the average over the dimensions; pairs without any are skipped.
    InfoNCE compares the rows of a batch by u_i . t_k / temperature, k = i being right. Second stage, the last
    `fuse` epochs: encoders and heads stand still, and the fusion is trained by CE(z, y), starting without momentum.

    Prediction: the sum over k, the modalities and the fusion, of w_k z_k, w = softmax over k of the largest
    probability of z_k / `certainty`, for every sample; in the first stage without the fusion. Two modalities or
    more of equal width, a late fusion. The first stage is one pass per epoch and encoder, the second none with
    gradients; dimensions cost a pass over the training rows without. Where gradients are accumulated, rows are
    compared within a part of a batch.

    Differences from the authors' code: dimensions are found anew in every epoch (there, once: `dimensions:
    once`), without augmentation; any number of modalities, by pairs; the contrast is computed by log-softmax;
    the second stage is part of the run's epochs (there, 20 more) and takes the encoders of the last epoch.
    """

    class Settings(Method.Settings):
        """The recipe block of `di_mml`; the defaults are the authors' on CREMA-D."""

        weight: Annotated[NonNegativeFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, description="weight of the losses of the shared head"
        )
        contrast_from: NonNegativeInt = Field(20, le=1_000_000, description="first epoch with contrasts, from 0")
        temperature: Annotated[PositiveFloat, Search(1, 100, log=True)] = Field(
            50.0, le=1e6, description="temperature of the contrasts"
        )
        certainty: Annotated[PositiveFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, description="temperature of the weights that predict"
        )
        fuse: PositiveInt | None = Field(
            None, le=1_000_000, description="last epochs, which train the fusion; null: 2 of 17 (20 of 150 + 20)"
        )
        dimensions: Literal["epoch", "once"] = Field(
            "epoch", description="when effective dimensions are found; once: before epoch contrast_from alone"
        )

    masks_reason: ClassVar[str] = "its contrasts compare two modalities of the same row"
    year: ClassVar[int | None] = 2024
    num_modalities: ClassVar[tuple[int, int | None]] = (2, None)
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "its encoders never see the loss of the fusion"
    state: ClassVar[tuple[str, ...]] = ("effective",)
    moves: ClassVar[str] = (
        "encoders, their heads and a shared one, by the optimiser; in the last epochs the fusion alone"
    )
    relearn_reason: ClassVar[str] = "does not train its encoders in the last epochs, so that they could not come back"
    distributed_reason: ClassVar[str] = "its contrasts compare the rows of a batch, of which each process has a part"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse unequal widths, fusions that exchange between encoders, and runs without a first stage."""
        key, settings = own_block(recipe)
        yield from unequal_widths(recipe)
        yield from not_late(recipe)
        if (settings.fuse or 0) >= recipe.training.epochs:
            yield f"{key}.fuse", f"must be less than training.epochs, {recipe.training.epochs}"

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, as the last epochs differ."""
        del recipe
        return "trains the fusion alone in the last epochs"

    def build(self, model: MultimodalModel) -> dict[str, nn.Module]:
        """Return the heads."""
        self.heads = DetachedHeads(model)
        return {"heads": self.heads}

    def setup(self, ctx: Context) -> None:
        """Start with no effective dimension."""
        widths = ctx.model.fusion.widths
        self.effective = {m: torch.zeros(widths[m], dtype=torch.bool, device=ctx.device) for m in ctx.model.modalities}
        self.lessons: dict[tuple[str, str], Tensor] = {}

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where the encoders never learn of one another."""
        first, last = self.settings.contrast_from, self.last_stage(ctx)
        if first >= last:
            yield f"no contrasts (contrast_from: {first}, the fusion is trained from epoch {last} on)"

    def last_stage(self, ctx: Context) -> int:
        """Return the epoch with which the second stage begins."""
        return ctx.epochs - (self.settings.fuse or max(round(ctx.epochs * 2 / 17), 1))

    def stage(self, ctx: Context) -> Stage:
        """Return what the epoch trains: encoders with their heads, or the fusion."""
        if ctx.epoch < self.last_stage(ctx):
            return Stage(0, frozenset({*ctx.model.modalities, "heads"}))
        return Stage(self.last_stage(ctx), frozenset({"fusion"}))

    def on_epoch_start(self, ctx: Context) -> None:
        """Find the effective dimensions of the epoch, or let the fusion predict."""
        if ctx.epoch >= self.last_stage(ctx):
            self.heads.fused.fill_(1.0)
            return
        first = self.settings.contrast_from
        if ctx.epoch == first or (ctx.epoch > first and self.settings.dimensions == "epoch"):
            features, labels = ctx.features("train")
            for m, held in self.effective.items():
                held.copy_(effective(features[m], labels, ctx.num_classes))
        self.lessons = lessons(self.effective)

    def forward(self, ctx: Context, batch: Batch) -> Outputs:
        """Run the encoders; the logits are those that predict, or in the second stage the fused ones."""
        if ctx.epoch < self.last_stage(ctx):
            return self.predict(ctx.model, batch)
        return super().forward(ctx, batch)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the losses of the present stage."""
        if ctx.epoch >= self.last_stage(ctx):
            return super().losses(ctx, outputs, batch)
        h, tau = outputs.features, self.settings.temperature
        losses = {m: functional.cross_entropy(z, batch.labels) for m, z in apply_heads(self.heads.own, h).items()}
        shared = [functional.cross_entropy(self.heads.shared(x), batch.labels) for x in h.values()]
        losses["shared"] = self.settings.weight * torch.stack(shared).sum()
        terms = [one_way_contrast(h[n], h[m], dimensions, tau) for (m, n), dimensions in self.lessons.items()]
        return {**losses, "contrast": torch.stack(terms).sum()} if terms else losses

    def _weighted(self, logits: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        return weighted_logits(logits, self.heads.certainties(logits, self.settings.certainty, present))

    def predict(self, model: MultimodalModel, batch: Batch) -> Outputs:
        """Return the logits (B, C) weighted by certainty, and the encoders' features."""
        features = model.encode(batch.inputs, batch.lengths, batch.present)
        logits = {**apply_heads(self.heads.own, features), FUSED: model.fuse(features, batch.present)}
        return Outputs(features, self._weighted(logits, batch.present))
