"""Class prototypes: which rows they are taken from, their means, and likeness to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from drcli.methods.context import Context, Features
from drcli.models.inference import extract_features


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


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean feature of each class, (C, D), of features (N, D); 0 for a class without rows."""
    sums = features.new_zeros(num_classes, features.shape[1]).index_add_(0, labels, features)
    return sums / torch.bincount(labels, minlength=num_classes).clamp(min=1)[:, None]


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
    log = similarity.log_softmax(dim=1)
    return -(log.exp() * log).sum(dim=1).mean()


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
