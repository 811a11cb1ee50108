"""MMCosine's logits once more, literally: plain Python, one number after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_cosines(weights: Mapping[str, Rows], features: Mapping[str, Rows], scale: float) -> list[list[float]]:
    """scale * (sum over m of cos(W_m,c, h_m)) of weights (C, D_m) and features (B, D_m)."""
    rows, classes = (len(next(iter(x.values()))) for x in (features, weights))
    found = [[0.0] * classes for _ in range(rows)]
    for m, h in features.items():
        for i in range(rows):
            for c in range(classes):
                product = sum(a * b for a, b in zip(weights[m][c], h[i], strict=True))
                lengths = math.sqrt(sum(a * a for a in weights[m][c])) * math.sqrt(sum(b * b for b in h[i]))
                found[i][c] += scale * product / lengths
    return found
