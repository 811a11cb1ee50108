"""Masked subnetworks once more, literally: plain Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reference.g2d import slow_softmax
from reference.multi_loss import slow_cross_entropy

Rows = Sequence[Sequence[float]]


def slow_strengths(logits: Mapping[str, Rows], features: Mapping[str, Rows], labels: Sequence[int]) -> dict[str, float]:
    """rho_m: how much the logits tell of the labels, per entropy of the features."""
    certain = 0.5
    for label in set(labels):
        p = labels.count(label) / len(labels)
        certain -= p * math.log(p)
    found = {}
    for m, rows in logits.items():
        entropies = [-sum(p * math.log(p) for p in slow_softmax(row)) for row in features[m]]
        found[m] = (certain - slow_cross_entropy(rows, labels)) / (sum(entropies) / len(entropies))
    return found


def slow_shares(strengths: Mapping[str, float], temperature: float) -> dict[str, float]:
    """The paper's formula for two: each has the other's part; between 0.1 and 0.9."""
    first, second = strengths
    parts = {m: math.exp(rho / temperature) for m, rho in strengths.items()}
    total = sum(parts.values())
    return {first: min(max(parts[second] / total, 0.1), 0.9), second: min(max(parts[first] / total, 0.1), 0.9)}


def slow_plus(importance: Sequence[float]) -> list[float]:
    """What AMSS+ multiplies each kept entry by."""
    return [1 / (value / sum(importance) + 1 / len(importance)) for value in importance]
