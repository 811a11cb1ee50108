"""The ensemble once more, literally: plain Python, one row after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_average(logits: Mapping[str, Sequence[Sequence[float]]]) -> list[list[float]]:
    """Probabilities (B, C): (1/M) sum over m of softmax(z_m), of logits {m: (B, C)} as lists."""
    rows = len(next(iter(logits.values())))
    averaged = []
    for i in range(rows):
        softmaxes = []
        for z in logits.values():
            exponentials = [math.exp(value) for value in z[i]]
            softmaxes.append([value / sum(exponentials) for value in exponentials])
        averaged.append([sum(column) / len(softmaxes) for column in zip(*softmaxes, strict=True)])
    return averaged
