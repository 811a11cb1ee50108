"""Asymmetric representation learning (Wei, Luo, Luo; ICCV 2025, arXiv 2507.10203)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from drcli.amounts import counted
from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import First, Losses, Method
from drcli.methods.context import Context
from drcli.methods.parts.gradients import scale_gradients, undone_by
from drcli.methods.parts.late_fusion import not_late
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe

SMALLEST_SHARE = 0.3
"""From below, the share of the entropy that a modality counts with."""


class ARL(Method):
    """Unimodal losses through the shared head, and gradients of encoders increased by dominance and confidence.

        z_m = f(0, ..., h_m, ..., 0)                    the fused head with the other features set to 0
        L   = CE(z, y) + g * sum over m of CE(z_m, y)   g = 1 before epoch `starts`, gamma from then on

    From epoch `starts` on, of every batch, with p_m = softmax(z_m),

        d_m = sum over c of the mean over i of |z_m,i,c|,  then d_m / sum over n of d_n
        e_m = mean over i of the entropy of p_m,i,         then max(e_m / sum over n of e_n, 0.3)
        I_m = (1 / e_m) / sum over n of (1 / e_n)
        w   = softmax over m of temperature * (mean over n != m of d_n) * I_m

    and 1 + w_m multiplies the gradient of encoder m. Any number of modalities (the mean of the others' d is ours; the
    authors' formula is for two), any late fusion; with one modality this is joint training. Where gradients are
    accumulated, w is that of the whole batch.

    Differences from the authors' code: there, the computed w is never stored, and the layer that should scale
    gradients raises an error; `form: code` is what is left, the two losses. Gradients are clipped there at the norm 40,
    here by the recipe (`training.clip_grad_norm`).
    """

    class Settings(Method.Settings):
        """The recipe block of `arl`; the defaults are the authors' on CREMA-D, who count `start` 5 as still plain."""

        gamma: Annotated[NonNegativeFloat, Search(0.5, 8, log=True)] = Field(
            4.0, le=1e6, allow_inf_nan=False, description="weight of each unimodal loss from epoch starts on; 1 before"
        )
        temperature: Annotated[NonNegativeFloat, Search(1, 16, log=True, when={"form": "paper"})] = Field(
            8.0, le=1e6, allow_inf_nan=False, description="T: how much the factors of the encoders differ"
        )
        starts: First = 6
        form: Literal["paper", "code"] = Field(
            "paper",
            description="paper: gradients of encoders are scaled; code: they are not, as in the authors' released code",
        )

    year: ClassVar[int | None] = 2025
    neutral: ClassVar[Mapping[str, Any] | None] = {"gamma": 0.0, "starts": 0, "form": "code"}

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions whose encoders exchange: their features are not those of one modality."""
        yield from not_late(recipe)

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn of an optimiser that undoes factors, and of a run that ends before they begin."""
        if self.settings.form == "paper":
            yield from undone_by(ctx.training.optimizer)
            if self.settings.starts >= ctx.epochs:
                yield f"starts: {self.settings.starts}, {counted(ctx.epochs, 'epoch')}: no gradient is scaled"

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss and, by modality, the weighted unimodal ones."""
        losses = super().losses(ctx, outputs, batch)
        weight = self.settings.gamma if ctx.epoch >= self.settings.starts else 1.0
        if weight > 0 and len(outputs.features) > 1:
            for m, logits in ctx.model.unimodal_logits(outputs.features, "zero_others").items():
                losses[m] = weight * functional.cross_entropy(logits, batch.labels)
        return losses

    def modulate(self, ctx: Context, outputs: Outputs, batch: Batch) -> None:
        """Increase the gradients of the encoders."""
        off = self.settings.form == "code" or ctx.epoch < self.settings.starts
        if off or len(ctx.model.modalities) == 1:
            return
        with torch.no_grad():
            logits = ctx.model.unimodal_logits(outputs.features, "zero_others")
        for m, weight in asymmetry(logits, self.settings.temperature).items():
            ctx.log(f"coefficient/{m}", 1 + weight)
            scale_gradients(ctx.model.encoders[m].parameters(), 1 + weight)


def asymmetry(logits: Mapping[str, Tensor], temperature: float) -> dict[str, Tensor]:
    """Return w_m, {m: ()}, which add up to 1, from unimodal logits {m: (B, C)} of two modalities or more."""
    stacked = torch.stack(list(logits.values()))
    size = stacked.abs().mean(dim=1).sum(dim=1)
    entropy = -(stacked.softmax(dim=2) * stacked.log_softmax(dim=2)).sum(dim=2).mean(dim=1)
    weights = weights_of(shares(size), shares(entropy), temperature)
    return dict(zip(logits, weights.unbind(), strict=True))


def weights_of(dominance: Tensor, uncertainty: Tensor, temperature: float) -> Tensor:
    """Return w (M,) from the shares d (M,) and e (M,) of the modalities, each of which adds up to 1."""
    confidence = shares(1 / uncertainty.clamp(min=SMALLEST_SHARE))
    others = (dominance.sum() - dominance) / (len(dominance) - 1)
    return (temperature * others * confidence).softmax(dim=0)


def shares(values: Tensor) -> Tensor:
    """Return values (M,) of 0 or more divided by their sum; equal shares where it is 0."""
    total = values.sum()
    return torch.where(total > 0, values / total, 1 / len(values))
