"""LFM once more, literally: one pair, one sample, one class after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def softmax(row: Sequence[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def kl(p: Sequence[float], q: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def slow_divergence(p: Sequence[float], q: Sequence[float], kind: str) -> float:
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    if kind == "js":
        return (kl(p, middle) + kl(q, middle)) / 2
    return (kl(middle, p) + kl(middle, q)) / 2


def slow_loss(
    fused: Rows, unimodal: Mapping[str, Rows], labels: Sequence[int], weight: float, kind: str
) -> tuple[float, float]:
    """(1 - a) times the cross-entropy, and a times the divergence, averaged over pairs and samples."""
    cross = sum(-math.log(softmax(z)[y]) for z, y in zip(fused, labels, strict=True)) / len(labels)
    names = list(unimodal)
    total, pairs = 0.0, 0
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            for u, v in zip(unimodal[first], unimodal[second], strict=True):
                total += slow_divergence(softmax(u), softmax(v), kind) / len(labels)
            pairs += 1
    return (1 - weight) * cross, weight * total / pairs
