"""Multimodal competition regulariser (Kontras et al.; NeurIPS 2025, arXiv 2411.07335)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Losses, own_block
from drcli.methods.context import Context
from drcli.methods.multi_loss import MultiLoss
from drcli.methods.parts.late_fusion import not_late
from drcli.methods.parts.shared_head import widths_of
from drcli.models.fusion import Fusion, Outputs
from drcli.recipe.schema import Recipe

SIGNS = {"greedy": -1.0, "independent": 0.0, "collaborative": 1.0}


class MCR(MultiLoss):
    """Multi-loss with a regulariser that makes each encoder matter to the prediction, and a contrastive loss.

    f are the fused logits; those with the features of modality m permuted over the batch tell how much m matters,

        J_m = mean over `permutations` random ones of JS(softmax(f), softmax(f with h_m permuted)),  0 to ln 2, in nats
        L   = CE(z, y) + weight * (sum over m of CE(z_m, y)) + R + contrast * S

    where the gradient of R that reaches encoder i is -lambda * (dJ_i + k * (sum over m != i of dJ_m)): k = -1 greedy
    (other modalities shall matter less), 0 independent, 1 collaborative. It is computed as

        R = -lambda * (sum over i of (J_i^i + k * (sum over m != i of J_m^i)))

    J^i with every feature but h_i held constant; for k = 1 as -lambda * (sum over m of J_m), nothing held constant, so
    that the fusion's gradient counts once. S is NT-Xent with labels: over the unit features u of all samples and
    modalities, the mean over all pairs (a, p) of one label, n being all of other labels, of

        -log(exp(u_a . u_p / temperature) / (exp(u_a . u_p / temperature) + sum over n of exp(u_a . u_n / temperature)))

    Any number of modalities, any late fusion; with one this is joint training. Accumulated, parts are permuted.

    Differences from the authors' code: its bias is in f but not in the permuted logits, here it is in both; it stores
    two weights as booleans, so that they become 1; the term for reconstructing features, harmful without pre-training
    by its paper, is left out. Of three modalities, it permutes pairs too; here each is permuted by itself.
    """

    class Settings(MultiLoss.Settings):
        """The recipe block of `mcr`; the defaults are the authors' on CREMA-D."""

        lambda_: Annotated[NonNegativeFloat, Search(1e-3, 1, log=True)] = Field(
            0.01, alias="lambda", le=1e6, allow_inf_nan=False, description="weight of the regulariser"
        )
        strategy: Literal["greedy", "independent", "collaborative"] = Field(
            "greedy", description="what an encoder does to how much others matter; greedy: less; collaborative: more"
        )
        permutations: PositiveInt = Field(32, le=4096, description="K: random permutations of a batch per modality")
        weight: Annotated[NonNegativeFloat, Search(1e-3, 1, log=True)] = Field(
            0.01, le=1e6, allow_inf_nan=False, description="weight of each unimodal loss; the fused loss has weight 1"
        )
        detached: bool = Field(
            False, description="whether encoders learn nothing from the unimodal losses, as in the authors' code"
        )
        contrast: Annotated[NonNegativeFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="weight of the contrastive loss"
        )
        temperature: Annotated[PositiveFloat, Search(0.05, 1, log=True)] = Field(
            0.1, le=1e6, description="divides the similarities of the contrastive loss"
        )

    masks_reason: ClassVar[str] = "it exchanges modalities between rows, of which each must have them"
    year: ClassVar[int | None] = 2025
    neutral: ClassVar[Mapping[str, Any] | None] = {"lambda": 0.0, "weight": 0.0, "contrast": 0.0}
    distributed_reason: ClassVar[str] = "it permutes and compares all samples of a batch"

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse fusions whose encoders exchange, and features of several widths with a contrastive loss."""
        yield from super().check(recipe)
        yield from not_late(recipe)
        key, settings = own_block(recipe)
        widths = widths_of(recipe)
        if settings.contrast > 0 and len(set(widths.values())) > 1:
            listed = ", ".join(f"{m} {width}" for m, width in widths.items())
            yield f"{key}.contrast", f"must be 0 for encoders with unequal numbers of features ({listed})"

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the fused and unimodal losses, the regulariser and the contrastive loss."""
        features = {m: h.detach() for m, h in outputs.features.items()} if self.settings.detached else outputs.features
        losses = super().losses(ctx, Outputs(features, outputs.logits), batch)
        if len(outputs.features) == 1:
            return losses
        if self.settings.lambda_ > 0:
            losses["regulariser"] = self.settings.lambda_ * self._regulariser(ctx, outputs.features)
        if self.settings.contrast > 0:
            units = [functional.normalize(h, dim=1) for h in outputs.features.values()]
            losses["contrast"] = self.settings.contrast * contrastive(units, batch.labels, self.settings.temperature)
        return losses

    def _regulariser(self, ctx: Context, features: Mapping[str, Tensor]) -> Tensor:
        """Return R / lambda, ()."""
        sign, orders = SIGNS[self.settings.strategy], self._orders(ctx, features)
        total = []
        for own in [None] if sign == 1 else features:  # None: no feature is held constant
            seen = {m: h if own in (m, None) else h.detach() for m, h in features.items()}
            for m, value in divergences(ctx.model.fusion, seen, orders).items():
                total.append(-value if own in (m, None) else -sign * value)
                if own in (m, None):
                    ctx.log(f"coefficient/{m}", value)
        return torch.stack(total).sum()

    def _orders(self, ctx: Context, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return for each modality permutations of the rows, one after the other, (K B,)."""
        size = (self.settings.permutations, len(next(iter(features.values()))))
        drawn = {m: torch.rand(size, generator=ctx.generator("mcr", m, ctx.step)) for m in features}
        return {m: x.argsort(dim=1).flatten().to(ctx.device) for m, x in drawn.items()}


def divergences(fusion: Fusion, features: Mapping[str, Tensor], orders: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return J_m, {m: ()}, of features {m: (B, D_m)} and the rows (K B,) that take their places."""
    rows = len(next(iter(features.values())))
    plain = fusion(features)
    found = {}
    for m, order in orders.items():
        copies = len(order) // rows
        repeated = {n: h[order] if n == m else h.repeat(copies, 1) for n, h in features.items()}
        found[m] = jensen_shannon(plain.repeat(copies, 1), fusion(repeated))
    return found


def jensen_shannon(z: Tensor, other: Tensor) -> Tensor:
    """Return the mean over rows of JS(softmax(z), softmax(other)), (), in nats, of logits (B, C)."""
    logs = torch.stack([z, other]).log_softmax(dim=2)
    middle = logs.logsumexp(dim=0) - math.log(2)
    return (logs.exp() * (logs - middle)).sum(dim=2).mean()


def contrastive(units: Sequence[Tensor], labels: Tensor, temperature: float) -> Tensor:
    """Return S, (), of unit features (B, D) of each modality."""
    together, every = torch.cat(list(units)), labels.repeat(len(units))
    logits = together @ together.T / temperature
    same = every[:, None] == every
    others = logits.masked_fill(same, -1e9).logsumexp(dim=1, keepdim=True)
    terms = torch.logaddexp(logits, others) - logits
    positive = same.float().fill_diagonal_(0)
    return (terms * positive).sum() / positive.sum()
