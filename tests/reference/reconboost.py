"""ReconBoost once more, literally: one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def softmax(row: Sequence[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def slow_sum(logits: Mapping[str, Rows], rate: float) -> list[list[float]]:
    """rate times the sum over the members."""
    rows = range(len(next(iter(logits.values()))))
    return [[rate * sum(column) for column in zip(*(z[i] for z in logits.values()), strict=True)] for i in rows]


def slow_residual(picked: Rows, others: Rows, labels: Sequence[int], w1: float, w2: float) -> float:
    """Two sums over the classes, as the paper has them: w1 times the cross-entropy, less w2 times q's part of it."""
    total = 0.0
    for z, f, y in zip(picked, others, labels, strict=True):
        p, q = softmax(z), softmax(f)
        target = [1.0 if c == y else 0.0 for c in range(len(z))]
        cross = sum(-t * math.log(x) for t, x in zip(target, p, strict=True)) / len(z)
        known = sum(-t * r * math.log(x) for t, r, x in zip(target, q, p, strict=True)) / len(z)
        total += w1 * cross - w2 * known
    return total / len(labels)


def slow_agreement(picked: Rows, before: Rows) -> float:
    """Mean squared difference of the probabilities, over samples and classes."""
    squares = [
        (p - q) ** 2 for z, f in zip(picked, before, strict=True) for p, q in zip(softmax(z), softmax(f), strict=True)
    ]
    return sum(squares) / len(squares)
