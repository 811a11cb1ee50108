"""The coefficients of MLB once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_scores(logits: Mapping[str, Sequence[Sequence[float]]], labels: Sequence[int]) -> dict[str, float]:
    """Mean over samples of softmax(z_m)_y."""
    found = {}
    for m, rows in logits.items():
        total = 0.0
        for row, label in zip(rows, labels, strict=True):
            total += math.exp(row[label]) / sum(math.exp(z) for z in row)
        found[m] = total / len(labels)
    return found


def slow_balancing(scores: Mapping[str, float], alpha: float, ceiling: float) -> dict[str, float]:
    """c_m of every modality."""
    found = {}
    for m, score in scores.items():
        others = [other for n, other in scores.items() if n != m]
        r = (sum(others) / len(others)) / score
        if r > 1:
            found[m] = 1 + (ceiling - 1) * math.tanh(alpha * (r - 1))
        else:
            found[m] = 1 + math.tanh(alpha * (r - 1))
    return found
