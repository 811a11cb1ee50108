"""Predictive dynamic fusion once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reference.g2d import slow_softmax


def slow_holo(confidences: Mapping[str, float]) -> dict[str, float]:
    """The part of all logarithms that is the others'."""
    found = {}
    total = sum(math.log(c) for c in confidences.values())
    for m in confidences:
        found[m] = sum(math.log(c) for n, c in confidences.items() if n != m) / total
    return found


def slow_calibration(logits: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """How far from uniform each is, over that of the farthest."""
    far = {}
    for m, row in logits.items():
        far[m] = sum(abs(p - 1 / len(row)) for p in slow_softmax(row)) / len(row)
    return {m: value / max(far.values()) for m, value in far.items()}


def slow_beliefs(
    confidences: Mapping[str, float], logits: Mapping[str, Sequence[float]] | None = None
) -> dict[str, float]:
    """Weights of one sample, calibrated if logits are given."""
    holo = slow_holo(confidences)
    relative = slow_calibration(logits) if logits is not None else dict.fromkeys(confidences, 1.0)
    exponentials = {m: math.exp(relative[m] * (c + holo[m])) for m, c in confidences.items()}
    return {m: e / sum(exponentials.values()) for m, e in exponentials.items()}


def slow_fused(logits: Mapping[str, Sequence[float]], weights: Mapping[str, float]) -> list[float]:
    """The weighted sum of the logits of one sample."""
    classes = len(next(iter(logits.values())))
    return [sum(weights[m] * row[c] for m, row in logits.items()) for c in range(classes)]
