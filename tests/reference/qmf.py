"""Quality-aware fusion once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_weights(logits: Rows) -> list[float]:
    """The tenth of the logarithm of the sum of the exponentials."""
    return [math.log(sum(math.exp(z) for z in row)) / 10 for row in logits]


def slow_fused(logits: Mapping[str, Rows], weights: Mapping[str, Sequence[float]]) -> list[list[float]]:
    """The weighted sum of the modalities' logits."""
    first = next(iter(logits.values()))
    fused = [[0.0] * len(row) for row in first]
    for m, rows in logits.items():
        for i, row in enumerate(rows):
            for c, z in enumerate(row):
                fused[i][c] += weights[m][i] * z
    return fused


def slow_ranking(weights: Sequence[float], hardness: Sequence[float]) -> float:
    """Of each row and the next: the harder one should have less weight, by their distance in hardness."""
    total = 0.0
    for i in range(len(weights)):
        j = (i + 1) % len(weights)
        if hardness[i] > hardness[j]:
            total += max(0.0, weights[i] - weights[j] + (hardness[i] - hardness[j]))
        elif hardness[i] < hardness[j]:
            total += max(0.0, weights[j] - weights[i] + (hardness[j] - hardness[i]))
    return total / len(weights)
