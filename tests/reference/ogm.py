"""On-the-fly gradient modulation once more, literally: plain Python, one sample after another, nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_scores(logits: Mapping[str, Rows], labels: Sequence[int]) -> dict[str, float]:
    """s_m: the probability of the true class, summed over the samples."""
    scores = {}
    for m, rows in logits.items():
        scores[m] = 0.0
        for row, label in zip(rows, labels, strict=True):
            exponentials = [math.exp(z - max(row)) for z in row]
            scores[m] += exponentials[label] / sum(exponentials)
    return scores


def slow_coefficients(scores: Mapping[str, float], alpha: float) -> dict[str, float]:
    """k_m = 1 - tanh(alpha * r_m) where r_m > 1, else 1; r_m = s_m over the mean of the others."""
    found = {}
    for m, score in scores.items():
        others = [other for n, other in scores.items() if n != m]
        ratio = score / (sum(others) / len(others))
        found[m] = 1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0
    return found


def slow_sliced_logits(
    weight: Rows, bias: Sequence[float], features: Mapping[str, Rows]
) -> dict[str, list[list[float]]]:
    """z_m = W[:, slice_m] h_m + b / M, the slices in the order of the features."""
    found, start = {}, 0
    for m, rows in features.items():
        width = len(rows[0])
        found[m] = [
            [
                sum(w[start + d] * h[d] for d in range(width)) + b / len(features)
                for w, b in zip(weight, bias, strict=True)
            ]
            for h in rows
        ]
        start += width
    return found
