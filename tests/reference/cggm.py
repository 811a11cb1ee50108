"""Classifier-guided gradient modulation once more, literally: plain Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_modulation(gains: Mapping[str, float], limit: float | None) -> dict[str, float]:
    """c_m: the part of all gains that the others have; limited to [0, limit], and 1 where nothing was gained."""
    total = sum(gains.values())
    found = {}
    for m, gain in gains.items():
        found[m] = (total - gain) / (total + 1e-8)
        if limit is not None:
            found[m] = min(max(found[m], 0.0), limit) if total > 1e-8 else 1.0
    return found


def slow_gradient(logits: Rows, labels: Sequence[int]) -> list[float]:
    """The gradient of the summed cross-entropy with respect to every logit, one row after another."""
    found = []
    for row, label in zip(logits, labels, strict=True):
        total = sum(math.exp(z) for z in row)
        for number, z in enumerate(row):
            found.append(math.exp(z) / total - (1 if number == label else 0))
    return found


def slow_cosine(fused: Rows, unimodal: Rows, labels: Sequence[int]) -> float:
    """The cosine of the two gradients."""
    one, other = slow_gradient(fused, labels), slow_gradient(unimodal, labels)
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def slow_direction(coefficients: Mapping[str, float], cosines: Mapping[str, float]) -> float:
    """Mean over the modalities of |c| - c cos."""
    total = 0.0
    for m, c in coefficients.items():
        total += abs(c) - c * cosines[m]
    return total / len(coefficients)
