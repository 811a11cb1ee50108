"""Data Remixing once more, literally: one row after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_choice(logits: Mapping[str, Sequence[Sequence[float]]]) -> list[str]:
    """The modality whose probabilities are closest to uniform ones, of each row; the last name at a tie."""
    chosen = []
    for i in range(len(next(iter(logits.values())))):
        best, smallest = "", math.inf
        for m in sorted(logits):
            weights = [math.exp(z) for z in logits[m][i]]
            p = [weight / sum(weights) for weight in weights]
            distance = sum(x * math.log(x * len(p)) for x in p)
            if distance <= smallest:
                best, smallest = m, distance
        chosen.append(best)
    return chosen
