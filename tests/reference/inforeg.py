"""InfoReg once more, literally: plain Python, one number after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_strength(scores: Mapping[str, float], beta: float, form: str) -> dict[str, float]:
    """a_m of every modality in an open window; scores are means (paper) or sums (code)."""
    found = {}
    for m, score in scores.items():
        others = [other for n, other in scores.items() if n != m]
        gap = score - sum(others) / len(others)
        if gap <= 0:
            found[m] = 0.0
        elif form == "paper":
            found[m] = math.exp(beta * math.tanh(gap))
        else:
            found[m] = beta * math.exp(math.tanh(gap))
    return found


def slow_rise(traces: Sequence[float], form: str) -> float:
    """K before the epoch that follows those of the traces."""
    if form == "paper":
        if len(traces) < 2:
            return 0.0
        return (traces[-1] - traces[-2]) / traces[-1]
    if not traces:
        return 1.0
    listed = [0.0] * 10
    means = [0.0]
    for value in traces:
        listed.append(value)
        means.append(sum(listed[-10:]) / 10)
    return (means[-1] - means[-2]) / means[-1]
