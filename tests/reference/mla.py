"""MLA once more, literally: plain loops over numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Matrix = list[list[float]]


def slow_projection(projection: Matrix, mean: Sequence[float], lambda_: float, *, normalise: bool) -> Matrix:
    """P - (P r)(P r)^T / (lambda + r . P r), and that over the root of the sum of its squares."""
    size = range(len(mean))
    k = [sum(projection[i][j] * mean[j] for j in size) for i in size]
    bottom = lambda_ + sum(mean[i] * k[i] for i in size)
    found = [[projection[i][j] - k[i] * k[j] / bottom for j in size] for i in size]
    norm = math.sqrt(sum(x * x for row in found for x in row)) if normalise else 1.0
    return [[x / norm for x in row] for row in found]


def slow_prediction(logits: Mapping[str, Sequence[float]]) -> list[float]:
    """Of one sample: every modality's logits times exp(largest entropy - its own) over the sum of these."""
    entropies = {}
    for m, row in logits.items():
        total = sum(math.exp(z) for z in row)
        entropies[m] = -sum(math.exp(z) / total * math.log(math.exp(z) / total) for z in row)
    raw = {m: math.exp(max(entropies.values()) - h) for m, h in entropies.items()}
    classes = range(len(next(iter(logits.values()))))
    return [sum(raw[m] / sum(raw.values()) * logits[m][c] for m in logits) for c in classes]
