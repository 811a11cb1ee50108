"""What CentralNet's blocks are given once more, literally: numpy, one place after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def slow_mixture(terms: Sequence[tuple[float, np.ndarray]]) -> np.ndarray:
    """Sum of weight * maps (B, C, H, W), each pooled to the smallest size and padded to most channels."""
    batch = len(terms[0][1])
    channels, height, width = max(x.shape[1] for _, x in terms), *(min(x.shape[k] for _, x in terms) for k in (2, 3))
    total = np.zeros((batch, channels, height, width))
    for weight, x in terms:
        for b, c, i, j in np.ndindex(batch, x.shape[1], height, width):
            rows, columns = bin_of(i, x.shape[2], height), bin_of(j, x.shape[3], width)
            total[b, c, i, j] += weight * x[b, c, rows, columns].mean()
    return total


def bin_of(k: int, places: int, count: int) -> slice:
    return slice(math.floor(k * places / count), math.ceil((k + 1) * places / count))
