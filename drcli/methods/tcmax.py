"""TCMax: total correlation maximisation (ICLR 2026, arXiv 2602.13015)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method, own_block
from drcli.methods.context import Context
from drcli.methods.parts.late_fusion import is_additive, not_late
from drcli.models.fusion import Additive, Outputs
from drcli.recipe.schema import Recipe

MOST_ROWS = 2**16
"""Rows that a fusion without terms is evaluated on at most; more are to be drawn."""


class TCMax(Method):
    """A lower bound of the total correlation of modalities and label, in place of the cross-entropy.

    With f(i_1, ..., i_M) the fused logits (C,) of features h_1 of sample i_1, ..., h_M of sample i_M of a batch of B,

        L = -(mean over i of f(i, ..., i)[y_i]) + log(sum over i_1, ..., i_M and c of exp f(i_1, ..., i_M)[c])
            - log(B^M * C)

    Samples whose modalities come from different samples are the negatives. -L is a bound of the total correlation (for
    one modality, of the mutual information with the label). Of additive fusions the sum has a closed form,

        log(sum over c of exp(sum over m of log(sum over i of exp z_m,i[c]))),   z_m the terms of the logits

    other late fusions are evaluated on all B^M combinations, or on `pairs` random ones per sample. B is part of the
    objective: where gradients are accumulated, it is the size of a part, which a warning says.

    The logits are not normalised per sample: predictions are right, but validation losses and calibration errors,
    which take a softmax of them, may be off.

    Differences from the authors' code: everything by log-sum-exp (there, exponentials after the mean is subtracted,
    which can overflow); the constant log(B^M * C) instead of log B, so that L is 0 for equal logits; any number of
    modalities instead of two. Its branch for pictures and text trains on unimodal cross-entropies instead.
    """

    class Settings(Method.Settings):
        """The recipe block of `tcmax`."""

        pairs: PositiveInt | None = Field(
            None,
            le=4096,
            description="random combinations per sample, for fusions that are not additive; null: all combinations",
        )

    masks_reason: ClassVar[str] = "it pairs modalities of different rows, of which each must have them"
    year: ClassVar[int | None] = 2026
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "its loss is a bound over combinations of samples, not a cross-entropy"
    distributed_reason: ClassVar[str] = "its loss combines every sample of a batch with every other one"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions whose encoders exchange, and more combinations than fit."""
        yield from not_late(recipe)
        key, settings = own_block(recipe)
        rows = recipe.training.batch_size ** len(recipe.modalities)
        if settings.pairs is None and not is_additive(recipe.fusion.name) and rows > MOST_ROWS:
            yield f"{key}.pairs", f"must be given: a batch has {rows} combinations, and {MOST_ROWS} are the most"

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn of accumulation, which changes the objective."""
        if ctx.training.accumulate > 1:
            rows = math.ceil(ctx.training.batch_size / ctx.training.accumulate)
            yield f"accumulate: samples are combined within parts of {rows}, not within a batch"

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the bound with its sign changed, (), in nats."""
        right = outputs.logits.gather(1, batch.labels[:, None]).mean()
        ctx.log("rows", torch.tensor(float(len(batch.labels)), device=right.device))
        return {"tcmax": self._log_mean(ctx, outputs.features) - right}

    def _log_mean(self, ctx: Context, features: Mapping[str, Tensor]) -> Tensor:
        """Return the logarithm of the mean of exp f over combinations and classes, ()."""
        fusion = ctx.model.fusion
        if isinstance(fusion, Additive):
            return log_mean_of_terms(fusion.terms(features))
        rows = len(next(iter(features.values())))
        logits: Tensor = fusion(
            {m: h[index] for (m, h), index in zip(features.items(), self._rows(ctx, rows), strict=True)}
        )
        return logits.logsumexp(dim=(0, 1)) - math.log(logits.numel())

    def _rows(self, ctx: Context, rows: int) -> list[Tensor]:
        """Return for each modality which row of the batch is in each combination."""
        names = ctx.model.modalities
        if self.settings.pairs is None:
            every = torch.arange(rows, device=ctx.device)
            return list(torch.cartesian_prod(*[every] * len(names)).reshape(-1, len(names)).unbind(dim=1))
        size = (self.settings.pairs * rows,)
        drawn = [torch.randint(rows, size, generator=ctx.generator("tcmax", m, ctx.step)) for m in names]
        return [index.to(ctx.device) for index in drawn]


def log_mean_of_terms(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the logarithm of the mean of exp f over all combinations and classes, (), of terms {m: (B, C)}."""
    rows, classes = next(iter(terms.values())).shape
    by_class = torch.stack([z.logsumexp(dim=0) for z in terms.values()]).sum(dim=0)
    return by_class.logsumexp(dim=0) - len(terms) * math.log(rows) - math.log(classes)
