"""The mixture of two modalities on the sphere once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reference.g2d import slow_softmax

Row = Sequence[float]


def slow_unit(row: Row) -> list[float]:
    """A vector of length 1."""
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def slow_slerp(first: Row, second: Row, part: float) -> list[float]:
    """The point on the arc between two unit vectors, `part` of the way from the second to the first."""
    one, other = slow_unit(first), slow_unit(second)
    theta = math.acos(sum(a * b for a, b in zip(one, other, strict=True)))
    weights = math.sin(part * theta) / math.sin(theta), math.sin((1 - part) * theta) / math.sin(theta)
    return [weights[0] * a + weights[1] * b for a, b in zip(one, other, strict=True)]


def slow_divergence(logits: Sequence[Row], mixed: Sequence[Row]) -> float:
    """Mean over the samples of KL(p || q)."""
    total = 0.0
    for ours, theirs in zip(logits, mixed, strict=True):
        for p, q in zip(slow_softmax(ours), slow_softmax(theirs), strict=True):
            total += p * math.log(p / q)
    return total / len(logits)


def slow_linear(row: Row, weight: Sequence[Row], bias: Row) -> list[float]:
    """W x + b."""
    return [sum(w * x for w, x in zip(weights, row, strict=True)) + b for weights, b in zip(weight, bias, strict=True)]
