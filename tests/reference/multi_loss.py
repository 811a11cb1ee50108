"""The multi-loss once more, literally: plain Python, one row after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_multi_loss(
    fused: Sequence[Sequence[float]],
    unimodal: Mapping[str, Sequence[Sequence[float]]],
    labels: Sequence[int],
    weight: float,
) -> float:
    """CE(z, y) + weight * sum over m of CE(z_m, y), of logits (B, C) as lists."""
    total = slow_cross_entropy(fused, labels)
    for logits in unimodal.values():
        total += weight * slow_cross_entropy(logits, labels)
    return total


def slow_cross_entropy(logits: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Mean of -log softmax(z)_y."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        total -= math.log(math.exp(row[label]) / sum(math.exp(z) for z in row))
    return total / len(labels)
