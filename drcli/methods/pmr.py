"""Prototypical modal rebalance (Fan, Xu, Wang, Wang, Guo; CVPR 2023, arXiv 2211.07089)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt
from torch import Tensor
from torch.nn import functional

from drcli.bases import Search
from drcli.data.batches import Batch
from drcli.methods.base import Event, Last, Losses, Window, own_block
from drcli.methods.context import Context, Features
from drcli.methods.parts.class_means import class_means
from drcli.methods.parts.divergence import entropies
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.models.fusion import Outputs
from drcli.models.multimodal import extract_features
from drcli.recipe.schema import Recipe


class PMR(Window):
    """Joint training, with a cross-entropy on distances to class prototypes for the modalities behind.

    With c_mj the prototype of class j in the features of modality m, and h_m,i the features of a sample,

        q_m[i, j] = -|h_m,i - c_mj|
        S_m = sum over i of softmax(q_m)_i[y_i],   rho_m = max over n of S_n / S_m
        b_m = clip(rho_m - 1, 0, 1); with `coef: hard`, 1 where S_m is not the largest, else 0
        L = CE(z, y) + alpha * (sum over m of b_m CE(q_m, y))                     epochs `starts` to `ends`
          - per_weight * (max over n of b_n) * H(softmax(q_m)), m of largest S_m   of them the first per_epochs

    For two modalities these are the paper's equations 8 to 13 (b_0 = beta, b_1 = gamma); rho over the
    best of M is ours. b and c are constants to the gradient. Prototypes are class means over a part
    of every class of the training rows, drawn anew each time and seen in evaluation mode: before epoch 0,
    and after every epoch blended as c <- ema * c_old + (1 - ema) * c_new. Works with any fusion; with one
    modality b is 0. Where gradients are accumulated, b is of each part of a batch.

    Differences from the authors' code: it has `coef: hard` alone and no entropy term; it takes the first
    tenth of the shuffled batches, where a class may be absent (NaN); it blends one epoch later.
    """

    class Settings(Window.Settings):
        """The recipe block of `pmr`."""

        alpha: Annotated[NonNegativeFloat, Search(0.1, 10, log=True)] = Field(
            1.0, le=1e6, allow_inf_nan=False, description="weight of the prototype losses"
        )
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
        ema: Annotated[float, Search(0, 0.9)] = Field(
            0.2, ge=0, lt=1, description="weight of the old prototypes at an update"
        )
        ends: Last = 100

    masks_reason: ClassVar[str] = "its prototypes would be means over rows that lack the modality"
    year: ClassVar[int | None] = 2023
    neutral: ClassVar[Mapping[str, Any] | None] = {"alpha": 0.0, "per_weight": 0.0}
    state: ClassVar[tuple[str, ...]] = ("prototypes", "updates")

    settings: Settings

    @classmethod
    def longer_reason(cls, recipe: Recipe) -> str:
        """Return why it cannot go on, where the prototypes stood still in the last epoch."""
        skipped = recipe.training.epochs - 1 < own_block(recipe)[1].ends
        return "did not update its prototypes after the last epoch" if skipped else ""

    def setup(self, ctx: Context) -> None:
        """Make room for the prototypes (C, D_m)."""
        widths = ctx.model.fusion.widths
        self.prototypes = {m: torch.zeros(ctx.num_classes, widths[m], device=ctx.device) for m in ctx.model.modalities}
        self.updates = 0

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
        features, labels = features_of_part(ctx, self.settings.share, self.updates)
        kept = self.settings.ema if self.updates else 0.0
        for m, prototypes in self.prototypes.items():
            new = class_means(features[m], labels, ctx.num_classes).to(prototypes.device)
            prototypes.mul_(kept).add_(new, alpha=1 - kept)
        self.updates += 1

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        """Return the joint loss, and in the window those on the prototypes."""
        losses = super().losses(ctx, outputs, batch)
        if not self.is_on(ctx):
            return losses
        similarity = {m: similarities(outputs.features[m], c) for m, c in self.prototypes.items()}
        scores = ctx.all_reduce(right_scores({m: q.detach() for m, q in similarity.items()}, batch.labels))
        behind = factors_behind(scores, self.settings.coef)
        for m, value in behind.items():
            ctx.log(f"coefficient/{m}", value)
        losses["prototypes"] = self.settings.alpha * prototype_loss(similarity, behind, batch.labels)
        if self.settings.per_weight > 0 and ctx.epoch < self.settings.per_epochs:
            losses["entropy"] = -self.settings.per_weight * leading_entropy(similarity, scores, behind)
        return losses


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


def draw_rows(labels: Tensor, fraction: float, generator: torch.Generator) -> Tensor:
    """Return ceil(fraction * n_c) distinct rows of every class c with n_c rows, ascending.

    Args:
        labels: class indices (N,), on the CPU.
        fraction: in (0, 1].
        generator: on the CPU.
    """
    drawn = []
    for label in sorted(set(labels.tolist())):
        rows = (labels == label).nonzero()[:, 0]
        chosen = torch.randperm(len(rows), generator=generator)[: math.ceil(fraction * len(rows))]
        drawn.append(rows[chosen])
    return torch.cat(drawn).sort().values


def similarities(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return q[i, j] = -|h_i - c_j|, (B, C), of features (B, D) and prototypes (C, D).

    The distances are of the differences themselves, not of products: those lose the small ones. The
    gradient of a distance of 0 is 0.
    """
    return -torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")


def factors_behind(scores: Mapping[str, Tensor], form: Literal["clip", "hard"]) -> dict[str, Tensor]:
    """Return how much each modality is behind, {m: ()} in [0, 1].

    With rho_m = max over n of S_n / S_m: "clip" is clip(rho_m - 1, 0, 1), "hard" is 1 where rho_m > 1,
    else 0. For two modalities these are beta and gamma of PMR (eqs. 9 and 10).
    """
    best = torch.stack(list(scores.values())).max()
    if form == "hard":
        return {m: (score < best).to(score) for m, score in scores.items()}
    tiny = torch.finfo(best.dtype).tiny  # 0 / 0 if all probabilities underflow
    return {m: (best.clamp(min=tiny) / score.clamp(min=tiny) - 1).clamp(0, 1) for m, score in scores.items()}


def entropy(similarity: Tensor) -> Tensor:
    """Return the mean entropy of softmax(q), shape (), of similarities (B, C); in nats."""
    return entropies(similarity).mean()


def features_of_part(ctx: Context, fraction: float, draw: int) -> Features:
    """Return features {m: (n, D_m)} and labels (n,) of a part of every class of the training rows.

    In evaluation mode with evaluation transforms, on the CPU.

    Args:
        ctx: the run.
        fraction: of each class, in (0, 1].
        draw: number of the draw: another number gives other rows.
    """
    generator = ctx.generator("prototypes", draw)
    rows = draw_rows(ctx.train.split.labels, fraction, generator)
    return extract_features(ctx.model, ctx.train, ctx.eval_batch_size, rows)
