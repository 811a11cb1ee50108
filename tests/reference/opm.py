"""OPM once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_probabilities(scores: Mapping[str, float], base: float, slope: float) -> dict[str, float]:
    """q_m of every modality."""
    found = {}
    for m, score in scores.items():
        others = [other for n, other in scores.items() if n != m]
        rho = math.tanh(max(score / (sum(others) / len(others)) - 1, 0.0))
        found[m] = min(max(base * (1 + slope * rho), 0.0), 1.0) if rho > 0 else 0.0
    return found


def slow_dropped(
    features: Mapping[str, Sequence[Sequence[float]]], kept: Mapping[str, Sequence[bool]], q: Mapping[str, float]
) -> dict[str, list[list[float]]]:
    """b_m h_m / (1 - theta) of every modality."""
    widths = {m: len(rows[0]) for m, rows in features.items()}
    theta = sum(widths[m] * q[m] for m in features) / sum(widths.values())
    return {
        m: [[x / (1 - theta) if keep else 0.0 for x in row] for row, keep in zip(rows, kept[m], strict=True)]
        for m, rows in features.items()
    }
