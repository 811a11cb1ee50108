"""AUG once more, literally: layers, samples and classes in plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = Sequence[float]


def softmax(row: Row) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def linear(weight: Sequence[Row], bias: Row | None, x: Row) -> list[float]:
    rows = [sum(w * v for w, v in zip(row, x, strict=True)) for row in weight]
    return rows if bias is None else [z + b for z, b in zip(rows, bias, strict=True)]


def add(first: Row, second: Row) -> list[float]:
    return [a + b for a, b in zip(first, second, strict=True)]


def slow_terms(
    layers: Sequence[tuple[Sequence[Row], Row]], final: tuple[Sequence[Row], Row], features: Row
) -> tuple[list[float], list[float]]:
    """u and l of one sample: the logits of all hidden layers but the last, with the final bias, and of the last."""
    weight, bias = final
    hidden = [[max(x, 0.0) for x in linear(a, b, features)] for a, b in layers]
    earlier = list(bias)
    for one in hidden[:-1]:
        earlier = add(earlier, linear(weight, None, one))
    return earlier, linear(weight, None, hidden[-1])


def slow_loss(earlier: Sequence[Row], last: Sequence[Row], labels: Sequence[int], residual: float) -> float:
    """CE of the sum, CE of the earlier ones, and CE of the last against y - residual * y * q, summed over classes."""
    total = 0.0
    for u, v, y in zip(earlier, last, labels, strict=True):
        q = softmax(u)
        total -= math.log(softmax(add(u, v))[y]) + math.log(q[y])
        target = [(1.0 if c == y else 0.0) * (1 - residual * q[c]) for c in range(len(u))]
        total -= sum(t * math.log(p) for t, p in zip(target, softmax(v), strict=True))
    return total / len(labels)
