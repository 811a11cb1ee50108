"""DGL's gradients once more, literally, for one linear layer on two or more features: plain Python lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

Matrix = list[list[float]]


def softmax(row: Sequence[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def logits(weight: Sequence[Sequence[float]], bias: Sequence[float], h: Sequence[float]) -> list[float]:
    return [sum(w * x for w, x in zip(row, h, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def slow_gradients(
    weight: Sequence[Sequence[float]],
    bias: Sequence[float],
    features: Sequence[Sequence[Sequence[float]]],
    labels: Sequence[int],
    alpha: float,
) -> tuple[Matrix, list[Matrix]]:
    """The gradient of the weight, from the fused loss alone, and of each modality's features, from its own loss alone.

    Args:
        weight: (C, sum of D_m).
        bias: (C,).
        features: for each modality rows (B, D_m).
        labels: (B,).
        alpha: weight of the unimodal losses.
    """
    rows, widths = len(labels), [len(h[0]) for h in features]
    of_weight = [[0.0] * len(weight[0]) for _ in weight]
    of_features = [[[0.0] * width for _ in range(rows)] for width in widths]
    for i, label in enumerate(labels):
        together = [x for h in features for x in h[i]]
        p = softmax(logits(weight, bias, together))
        for c in range(len(weight)):
            for j, x in enumerate(together):
                of_weight[c][j] += (p[c] - (c == label)) * x / rows
        start = 0
        for m, width in enumerate(widths):
            alone = [x if start <= j < start + width else 0.0 for j, x in enumerate(together)]
            q = softmax(logits(weight, bias, alone))
            for j in range(width):
                slope = sum((q[c] - (c == label)) * weight[c][start + j] for c in range(len(weight)))
                of_features[m][i][j] = alpha * slope / rows
            start += width
    return of_weight, of_features
