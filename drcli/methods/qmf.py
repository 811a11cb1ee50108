"""Quality-aware multimodal fusion (Zhang, Wu, Zhang, Hu, Fu, Zhou, Peng; ICML 2023, arXiv 2306.02050)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.data.rows import to_device
from drcli.methods.base import Losses
from drcli.methods.context import Context
from drcli.methods.parts.late_logits import LateLogits
from drcli.models.fusion import Outputs

Margin = Literal["paper", "released"]


class QMF(LateLogits):
    """Logits of the modalities weighted by their energy, which is ranked against the losses so far.

        w_m,i = logsumexp(z_m,i) / 10,   z_i = sum over m of w_m,i z_m,i
        L = CE(z, y) + sum over m of CE(z_m, y) + lambda * sum over m of R_m
        R_m = mean over pairs of max(0, g (w_m,i - w_m,j) + |k_m,i - k_m,j|),   g = sign(k_m,i - k_m,j)

    k_m,i is the loss of modality m on training sample i, summed over the epochs so far and scaled to [0, 1] over all
    samples: a sample that was hard is to have less weight, by its distance at least. Pairs are each row of a batch and
    the next; of the last, the first. The gradient goes through w. Any number of modalities; the fusion must have
    logits of single ones. w is not bounded and not normalised, as in the paper: accuracies are right, but look at the
    cross-entropy with care.

    Differences: where all losses are equal, k is 0. The authors' code has the distance with the wrong sign
    (`margin: released`): only pairs that are in the wrong order by more than it have a loss. In CRL (Moon et al., ICML
    2020, eq. 2), whose ranking this is with losses for correctness, it is added. Their script for RGB-D selects on the
    test split, and their code for texts holds w constant in z.
    """

    class Settings(LateLogits.Settings):
        """The recipe block of `qmf`."""

        lambda_: Annotated[NonNegativeFloat, Search(0.01, 10, log=True, source="ours; the authors have 0.1 and 1")] = (
            Field(
                0.1,
                alias="lambda",
                le=1e6,
                allow_inf_nan=False,
                description="weight of the ranking; the authors have 0.1 (NYUD2) and 1 (SUN RGB-D)",
            )
        )
        margin: Margin = Field("paper", description="sign of the distance in the ranking: the paper's, or the code's")

    year: ClassVar[int | None] = 2023
    state: ClassVar[tuple[str, ...]] = ("totals",)
    distributed_reason: ClassVar[str] = "the losses so far would be those of each process's own rows"

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Start with no loss for any training row (N,)."""
        self.totals = {m: torch.zeros(len(ctx.train), device=ctx.device) for m in ctx.model.modalities}

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the losses of logits, and for each modality that of the ranking; remembers the unimodal losses."""
        losses = super().losses(ctx, outputs, batch)
        logits = ctx.model.unimodal_logits(outputs.features, self.settings.unimodal_logits)
        rows = to_device(batch.index, ctx.device)
        for m, weights in energies(logits).items():
            ctx.log(f"coefficient/{m}", weights.mean())
            if self.settings.lambda_ > 0:
                hardness = scaled(self.totals[m])[rows]
                losses[f"rank_{m}"] = self.settings.lambda_ * ranking_loss(weights, hardness, self.settings.margin)
            each = functional.cross_entropy(logits[m].detach(), batch.labels, reduction="none")
            self.totals[m].index_add_(0, rows, each)
        return losses

    def _weights(self, logits: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return energies(logits)


def energies(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return w_m = logsumexp(z_m) / 10, {m: (B,)}, of logits {m: (B, C)}."""
    return {m: z.logsumexp(dim=1) / 10 for m, z in logits.items()}


def scaled(totals: Tensor) -> Tensor:
    """Return numbers (N,) scaled to [0, 1]; 0 where all are equal."""
    least, most = totals.aminmax()
    return (totals - least) / (most - least).clamp(min=torch.finfo(totals.dtype).tiny)


def ranking_loss(weights: Tensor, hardness: Tensor, margin: Margin = "paper") -> Tensor:
    """Return R, shape (), of the weights (B,) and the scaled losses so far (B,) of one modality."""
    apart = hardness - hardness.roll(-1)
    wrong = apart.sign() * (weights - weights.roll(-1))
    return (wrong + (apart.abs() if margin == "paper" else -apart.abs())).clamp(min=0).mean()
