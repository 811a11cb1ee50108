"""Calibrating multimodal learning (Ma, Zhang, Zhang, Wu, Fu, Zhou, Hu; ICML 2023, arXiv 2306.01265)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method
from drcli.methods.context import Context
from drcli.methods.parts.late_fusion import not_late, without
from drcli.models.fusion import Outputs
from drcli.recipe.schema import Recipe


class CML(Method):
    """Joint training with a penalty where the prediction becomes more confident as a modality is taken away.

    The modalities are taken away one after the other, in an order drawn for each epoch, until one is left; S_0 are all,
    S_k those left after k. With z(S) the fused logits when the features outside of S are 0,

        conf(S) = max over c of softmax(z(S))_c
        L = CE(z, y) + reduced * (sum over k >= 1 of CE(z(S_k), y))
          + lambda * (sum over k >= 1 of mean over i of max(conf_i(S_k) - conf_i(S_k-1), 0))

    A sample whose prediction from S_k is right and from S_k-1 wrong is exempt: there, confidence should rise. Any
    number of modalities, any late fusion; with one this is joint training.

    Differences from the authors' code: it is for multi-view models that sum evidence; for fused logits, as in
    BalanceBenchmark, a modality is taken away by features of 0. That benchmark bounds the sum over the batch instead of
    each sample, so that samples cancel, and does not use the exemption.
    """

    class Settings(Method.Settings):
        """The recipe block of `cml`; the default of lambda is that of BalanceBenchmark."""

        lambda_: Annotated[NonNegativeFloat, Search(0.01, 10, log=True)] = Field(
            0.1, alias="lambda", le=1e6, allow_inf_nan=False, description="weight of the rise in confidence"
        )
        reduced: NonNegativeFloat = Field(
            0.0,
            le=1e6,
            allow_inf_nan=False,
            description="weight of the cross-entropy of each prediction from fewer modalities; BalanceBenchmark has it",
        )

    year: ClassVar[int | None] = 2023
    neutral: ClassVar[Mapping[str, Any] | None] = {"lambda": 0.0, "reduced": 0.0}

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions whose encoders exchange: features of 0 take no modality away there."""
        yield from not_late(recipe)

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused loss, the penalty, and the losses of the predictions from fewer modalities."""
        losses = super().losses(ctx, outputs, batch)
        predictions = [outputs.logits, *self._reduced(ctx, outputs.features)]
        if len(predictions) == 1:
            return losses
        if self.settings.lambda_ > 0:
            rises = [rise(fewer, more, batch.labels) for more, fewer in pairwise(predictions)]
            losses["calibration"] = self.settings.lambda_ * torch.stack(rises).sum()
        if self.settings.reduced > 0:
            alone = [functional.cross_entropy(z, batch.labels) for z in predictions[1:]]
            losses["reduced"] = self.settings.reduced * torch.stack(alone).sum()
        return losses

    def _reduced(self, ctx: Context, features: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """Yield the logits from fewer and fewer modalities, down to one."""
        names = sorted(features)
        order = torch.randperm(len(names), generator=ctx.generator("cml")).tolist()
        for position in order[:-1]:
            features = without(features, names[position])
            yield ctx.model.fuse(features)


def rise(fewer: Tensor, more: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over samples of the rise in confidence from logits (B, C) of more modalities to fewer, ().

    Falls count as 0, and so do samples that fewer modalities predict right and more of them wrong.
    """
    found = [z.softmax(dim=1).max(dim=1) for z in (fewer, more)]
    (low, low_class), (high, high_class) = found
    exempt = (low_class == labels) & (high_class != labels)
    return torch.where(exempt, 0.0, (low - high).clamp(min=0)).mean()
