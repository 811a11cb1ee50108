"""DI-MML once more, literally: dimensions, rows and pairs in plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_effective(features: Rows, labels: Sequence[int]) -> list[bool]:
    """Whether the share of rows that one dimension alone puts next to their own class mean is above average."""
    classes = sorted(set(labels))
    shares = []
    for j in range(len(features[0])):
        means = {}
        for c in classes:
            own = [row[j] for row, y in zip(features, labels, strict=True) if y == c]
            means[c] = sum(own) / len(own)
        nearest = [min(classes, key=lambda c, x=row[j], of=means: abs(x - of[c])) for row in features]  # type: ignore[misc]
        shares.append(sum(c == y for c, y in zip(nearest, labels, strict=True)) / len(labels))
    return [share > sum(shares) / len(shares) for share in shares]


def slow_contrast(taught: Rows, teacher: Rows, dimensions: Sequence[int], temperature: float) -> float:
    """Mean over i of -log(exp(u_i . t_i / tau) / sum over k of exp(u_i . t_k / tau)), over the dimensions."""
    total = 0.0
    for i, u in enumerate(taught):
        weights = [math.exp(sum(u[j] * t[j] for j in dimensions) / temperature) for t in teacher]
        total -= math.log(weights[i] / sum(weights))
    return total / len(taught)


def slow_prediction(logits: Mapping[str, Sequence[float]], temperature: float) -> list[float]:
    """Of one sample: all logits, weighted by softmax of their largest probability over the temperature."""
    raw = {}
    for k, row in logits.items():
        p = [math.exp(z) / sum(math.exp(x) for x in row) for z in row]
        raw[k] = math.exp(max(p) / temperature)
    classes = range(len(next(iter(logits.values()))))
    return [sum(raw[k] / sum(raw.values()) * logits[k][c] for k in logits) for c in classes]
