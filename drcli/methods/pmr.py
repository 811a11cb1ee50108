"""Prototypical modal rebalance (Fan, Xu, Wang, Wang, Guo; CVPR 2023, arXiv 2211.07089)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.methods.base import Event, Losses, Method
from drcli.methods.context import Context
from drcli.methods.prototypes import class_means, coefficients, entropy, features_of_share, similarities
from drcli.methods.strengths import right_scores
from drcli.methods.window import missed
from drcli.models.fusion import Outputs


class PMR(Method):
    """Joint training, with a cross-entropy on distances to class prototypes for the modalities behind.

    With c_mj the prototype of class j in the features of modality m, and h_m,i the features of a sample,

        q_m[i, j] = -|h_m,i - c_mj|
        S_m = sum over i of softmax(q_m)_i[y_i],   rho_m = max over n of S_n / S_m
        b_m = clip(rho_m - 1, 0, 1); with `coef: hard`, 1 where S_m is not the largest, else 0
        L = CE(z, y) + alpha * (sum over m of b_m CE(q_m, y))                     epochs `starts` to `ends`
          - per_weight * (max over n of b_n) * H(softmax(q_m)), m of largest S_m   of them the first per_epochs

    For two modalities these are the paper's equations 8 to 13 (b_0 = beta, b_1 = gamma); rho over the
    best of M is ours. b and c are constants to the gradient. Prototypes are class means over a share
    of every class of the training rows, drawn anew each time and seen in evaluation mode: before epoch 0,
    and after every epoch blended as c <- ema * c_old + (1 - ema) * c_new. Works with any fusion; with one
    modality b is 0. Where gradients are accumulated, b is of each part of a batch.

    Differences from the authors' code: it has `coef: hard` alone and no entropy term; it takes the first
    tenth of the shuffled batches, where a class may be absent (NaN); it blends one epoch later.
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of `pmr`."""

        alpha: NonNegativeFloat = Field(1.0, le=1e6, allow_inf_nan=False, description="weight of the prototype losses")
        coef: Literal["clip", "hard"] = Field(
            "clip",
            description="factor b of a modality's prototype loss; clip: from 0 to 1, larger the further the modality "
            "is behind (paper); hard: 1 for the modalities behind, 0 for the best (authors' code)",
        )
        per_weight: NonNegativeFloat = Field(
            0.0,
            le=1e6,
            allow_inf_nan=False,
            description="mu: weight of the entropy of the best modality, which is made larger",
        )
        per_epochs: NonNegativeInt = Field(
            10,
            le=1_000_000,
            description='E_r: number of epochs with the entropy term, from epoch 0; the paper says "the first few"',
        )
        share: float = Field(
            0.1, gt=0, le=1, description="part of the training samples of each class that prototypes are computed from"
        )
        ema: float = Field(0.2, ge=0, lt=1, description="weight of the old prototypes at an update")
        starts: NonNegativeInt = Field(0, le=1_000_000, description="first epoch with the prototype losses, from 0")
        ends: int = Field(
            100, ge=-1, le=1_000_000, description="last epoch with the prototype losses; -1: no epoch has them"
        )

    neutral: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0, "per_weight": 0.0}

    settings: Settings

    def setup(self, ctx: Context) -> None:
        """Make room for the prototypes (C, D_m)."""
        widths = ctx.model.fusion.widths
        self.prototypes = {m: torch.zeros(ctx.num_classes, widths[m], device=ctx.device) for m in ctx.model.modalities}
        self.updates = 0

    def remarks(self, ctx: Context) -> Iterable[str]:
        """Say so where no epoch is in the window."""
        return missed(self.settings.starts, self.settings.ends, ctx.epochs)

    def on_epoch_start(self, ctx: Context) -> None:
        """Take the first prototypes, of the initial encoders."""
        if ctx.epoch == 0:
            self._update(ctx)

    def on_epoch_end(self, ctx: Context) -> Event | None:
        """Update the prototypes, unless no later epoch needs them."""
        if ctx.epoch < min(self.settings.ends, ctx.epochs - 1):
            self._update(ctx)
        return None

    def _update(self, ctx: Context) -> None:
        features, labels = features_of_share(ctx, self.settings.share, self.updates)
        kept = self.settings.ema if self.updates else 0.0
        for m, prototypes in self.prototypes.items():
            new = class_means(features[m], labels, ctx.num_classes).to(prototypes.device)
            prototypes.mul_(kept).add_(new, alpha=1 - kept)
        self.updates += 1

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the joint loss, and in the window those on the prototypes."""
        losses = super().losses(ctx, outputs, batch)
        if not self.settings.starts <= ctx.epoch <= self.settings.ends:
            return losses
        similarity = {m: similarities(outputs.features[m], c) for m, c in self.prototypes.items()}
        scores = ctx.summed(right_scores({m: q.detach() for m, q in similarity.items()}, batch.labels))
        behind = coefficients(scores, self.settings.coef)
        for m, value in behind.items():
            ctx.log(f"coefficient/{m}", value)
        losses["prototypes"] = self.settings.alpha * prototype_loss(similarity, behind, batch.labels)
        if self.settings.per_weight > 0 and ctx.epoch < self.settings.per_epochs:
            losses["entropy"] = -self.settings.per_weight * leading_entropy(similarity, scores, behind)
        return losses

    def state_dict(self) -> dict[str, Any]:
        """The prototypes and how often they were taken."""
        return {"prototypes": self.prototypes, "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        for m, prototypes in self.prototypes.items():
            prototypes.copy_(state["prototypes"][m])
        self.updates = int(state["updates"])


def prototype_loss(similarity: Mapping[str, Tensor], behind: Mapping[str, Tensor], labels: Tensor) -> Tensor:
    """Return sum over m of b_m CE(q_m, y), shape ()."""
    return torch.stack([behind[m] * functional.cross_entropy(q, labels) for m, q in similarity.items()]).sum()


def leading_entropy(
    similarity: Mapping[str, Tensor], scores: Mapping[str, Tensor], behind: Mapping[str, Tensor]
) -> Tensor:
    """Return (max over n of b_n) * H(softmax(q_m)) for m of the largest S_m, shape (); of equals, all count."""
    best = torch.stack(list(scores.values())).max()
    weight = torch.stack(list(behind.values())).max()
    leading = [(scores[m] == best) * entropy(q) for m, q in similarity.items()]
    return weight * torch.stack(leading).sum()
