"""One MMTM exchange once more, literally: plain Python, one sample and one channel after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Layer = tuple[np.ndarray, np.ndarray]


def affine(layer: Layer, x: Sequence[float]) -> list[float]:
    weight, bias = layer
    return [float(bias[i]) + sum(float(weight[i, j]) * x[j] for j in range(len(x))) for i in range(len(bias))]


def slow_gates(
    samples: Mapping[str, Sequence[np.ndarray]], squeeze: Layer, excitation: Mapping[str, Layer], scale: float
) -> dict[str, np.ndarray]:
    """Gates {m: (B, C_m)}; a sample is (C_m, places), all places that its mean is taken over."""
    gates: dict[str, list[list[float]]] = {m: [] for m in samples}
    for i in range(len(next(iter(samples.values())))):
        means = [sum(map(float, channel)) / len(channel) for m in sorted(samples) for channel in samples[m][i]]
        joint = [max(0.0, x) for x in affine(squeeze, means)]
        for m in samples:
            gates[m].append([scale / (1 + math.exp(-x)) for x in affine(excitation[m], joint)])
    return {m: np.array(rows) for m, rows in gates.items()}
