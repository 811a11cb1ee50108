"""CML's penalty once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def slow_rise(fewer: Rows, more: Rows, labels: Sequence[int]) -> float:
    """Mean over samples of max(conf(fewer) - conf(more), 0), 0 where only the prediction from fewer is right."""
    total = 0.0
    for low, high, label in zip(fewer, more, labels, strict=True):
        p, q = ([math.exp(z) / sum(math.exp(x) for x in row) for z in row] for row in (low, high))
        right_low, right_high = (max(range(len(x)), key=x.__getitem__) == label for x in (p, q))
        if right_low and not right_high:
            continue
        total += max(max(p) - max(q), 0.0)
    return total / len(labels)
