"""What DI-MML trains encoders with instead of a fused loss: classifiers, effective dimensions, one-way contrasts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional

from drcli.methods.parts.class_means import class_means
from drcli.methods.parts.shared_head import shared_width
from drcli.methods.parts.unimodal_scores import linear_heads
from drcli.methods.parts.weighted import softmax_over
from drcli.models.multimodal import MultimodalModel
from drcli.models.presence import ALL_PRESENT

FUSED = ""
"""Stands for the fused logits among those of modalities: a name that no modality has."""

CHUNK = 4096
"""Rows whose distances to class means are in memory at a time."""


class DetachedHeads(nn.Module):
    """One linear head per modality, and one that all share; whether the fusion is trained, for predictions."""

    def __init__(self, model: MultimodalModel) -> None:
        super().__init__()
        self.own = linear_heads(model)
        self.shared = nn.Linear(shared_width(model), model.fusion.num_classes)
        self.fused: Tensor
        self.register_buffer("fused", torch.zeros(()))  # 1 once the fusion is trained; kept with the weights

    def certainties(
        self, logits: Mapping[str, Tensor], temperature: float, present: Mapping[str, Tensor] = ALL_PRESENT
    ) -> dict[str, Tensor]:
        """Return w_k = softmax over k of max_c softmax(z_k)_c / temperature of each sample, {k: (B,)}.

        Args:
            logits: {k: (B, C)}; those named FUSED weigh 0 before the fusion is trained.
            temperature: above 0; the larger, the more equal the weights.
            present: which rows have a modality; the heads of those that a row lacks weigh 0; see `Batch.present`.
        """
        scores = {k: z.softmax(dim=1).amax(dim=1) / temperature for k, z in logits.items()}
        if FUSED in scores:
            scores[FUSED] = scores[FUSED] + self.fused.log()
        return softmax_over(scores, present)


def effective(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return which dimensions tell classes apart better than the average one does, (D,), bool.

    e_j is the share of rows whose nearest class mean in dimension j alone is that of their class, the first of
    equals; dimension j is effective if e_j > mean of e (Fan et al. 2024, arXiv 2407.19514).

    Args:
        features: h (N, D).
        labels: y (N,); a class without rows has no mean.
        num_classes: C.
    """
    present = labels.unique()
    means = class_means(features, labels, num_classes)[present]
    right = torch.zeros(features.shape[1], dtype=torch.int64)
    for rows, own in zip(features.split(CHUNK), labels.split(CHUNK), strict=True):
        distances = torch.stack([(rows - mean).abs() for mean in means])
        right += (present[distances.argmin(dim=0)] == own[:, None]).sum(dim=0)
    return right * len(right) > right.sum()


def lessons(effective: Mapping[str, Tensor]) -> dict[tuple[str, str], Tensor]:
    """Return the dimensions (D,) in which m is effective and n is not, {(m, n): ...}, without pairs that have none."""
    pairs = {(m, n): effective[m] & ~effective[n] for m, n in permutations(sorted(effective), 2)}
    return {pair: dimensions for pair, dimensions in pairs.items() if bool(dimensions.any())}


def one_way_contrast(taught: Tensor, teacher: Tensor, dimensions: Tensor, temperature: float) -> Tensor:
    """Return the mean over i of -log softmax over k of (u_i . t_k / temperature) at k = i, shape ().

    Args:
        taught: u (B, D), which alone gets a gradient.
        teacher: t (B, D), a constant.
        dimensions: which of the D count, (D,), bool.
        temperature: above 0.
    """
    kept = dimensions.to(taught.dtype)
    logits = (taught * kept) @ (teacher.detach() * kept).T / temperature
    return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
