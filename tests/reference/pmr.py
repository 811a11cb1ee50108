"""PMR once more, literally: the paper's equations in plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_prototypes(features: Rows, labels: Sequence[int], num_classes: int) -> list[list[float]]:
    """The mean of each class."""
    prototypes = []
    for label in range(num_classes):
        rows = [row for row, y in zip(features, labels, strict=True) if y == label]
        prototypes.append([sum(column) / len(rows) for column in zip(*rows, strict=True)])
    return prototypes


def probabilities(row: Sequence[float], prototypes: Rows) -> list[float]:
    """softmax over classes of minus the distance."""
    weights = [math.exp(-math.dist(row, prototype)) for prototype in prototypes]
    return [weight / sum(weights) for weight in weights]


def paper_coefficients(rho: float) -> tuple[float, float]:
    """beta and gamma of two modalities, rho = S_0 / S_1."""
    if rho < 1:
        return min(max(1 / rho - 1, 0), 1), 0
    return 0, min(max(rho - 1, 0), 1)


def slow_terms(features: Mapping[str, Rows], prototypes: Mapping[str, Rows], labels: Sequence[int]) -> dict[str, float]:
    """Prototype loss (alpha 1) and PER term (mu 1) of two modalities, with their coefficients."""
    first, second = features
    p = {m: [probabilities(row, prototypes[m]) for row in rows] for m, rows in features.items()}
    right = {m: [row[y] for row, y in zip(rows, labels, strict=True)] for m, rows in p.items()}
    beta, gamma = paper_coefficients(sum(right[first]) / sum(right[second]))
    pce = {m: -sum(math.log(x) for x in xs) / len(xs) for m, xs in right.items()}
    h = {m: sum(-x * math.log(x) for row in rows for x in row) / len(rows) for m, rows in p.items()}
    return {
        "prototypes": beta * pce[first] + gamma * pce[second],
        "entropy": -gamma * h[first] - beta * h[second],
        first: beta,
        second: gamma,
    }
