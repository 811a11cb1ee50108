"""How well a modality does on a batch: the score that OGM and PMR take, and AGM's with the factors it gives."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

FLOOR = 1e-8
"""Smallest probability that a logarithm is taken of."""


def right_scores(logits: Mapping[str, Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Return S_m = sum over i of softmax(z_m)_i[y_i], {m: ()}, from z {m: (B, C)} and y (B,).

    OGM takes it of logits (Peng et al. 2022, arXiv 2203.15332), PMR of similarities to prototypes (Fan et
    al. 2023, arXiv 2211.07089).
    """
    return {m: z.softmax(dim=1).gather(1, labels[:, None]).sum() for m, z in logits.items()}


def response_loss(response: Tensor, labels: Tensor) -> Tensor:
    """Return s = mean over i of -log max(softmax(phi)_i[y_i], 1e-8), shape (), of a response (B, C).

    AGM (Li et al. 2023, arXiv 2308.07686): a loss, so that lower is better.
    """
    right = functional.softmax(response, dim=1).gather(1, labels[:, None])
    return -right.clamp(min=FLOOR).log().mean()


def ratios(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return exp(M / (M - 1) * (mean over n of s_n - s_m)), {m: ()}; 1 for a single modality."""
    count = len(scores)
    mean = torch.stack(list(scores.values())).mean()
    return {m: (count / max(count - 1, 1) * (mean - s)).exp() for m, s in scores.items()}


def kappas(
    scores: Mapping[str, Tensor], means: Mapping[str, Tensor], *, alpha: float, cap: float | None
) -> dict[str, Tensor]:
    """Return kappa_m = exp(alpha * min(ref_m - ratio_m, cap)), {m: ()}.

    Args:
        scores: s_m of this batch.
        means: T_m over the batches before; 0 where there are none.
        alpha: slope.
        cap: bound, or None.
    """
    now, before = ratios(scores), ratios(means)
    bound = math.inf if cap is None else cap
    return {m: (alpha * (before[m] - now[m]).clamp(max=bound)).exp() for m in scores}
