"""The terms of MCR once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def softmax(row: Sequence[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def slow_jensen_shannon(z: Rows, other: Rows) -> float:
    """Mean over rows of JS(softmax(z), softmax(other))."""
    total = 0.0
    for row, row2 in zip(z, other, strict=True):
        p, q = softmax(row), softmax(row2)
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        total += sum(a * math.log(a / c) for a, c in zip(p, m, strict=True)) / 2
        total += sum(b * math.log(b / c) for b, c in zip(q, m, strict=True)) / 2
    return total / len(z)


def slow_divergences(
    terms: Mapping[str, Rows], bias: Sequence[float], orders: Mapping[str, Sequence[Sequence[int]]]
) -> dict[str, float]:
    """J_m of an additive fusion: terms (B, C) without the bias, and permutations of the rows of each modality."""
    rows = len(next(iter(terms.values())))

    def logits(i: int, swapped: str | None = None, j: int = 0) -> list[float]:
        return [b + sum(z[j if m == swapped else i][c] for m, z in terms.items()) for c, b in enumerate(bias)]

    found = {}
    for m, permutations in orders.items():
        values = []
        for order in permutations:
            plain = [logits(i) for i in range(rows)]
            values.append(slow_jensen_shannon(plain, [logits(i, m, order[i]) for i in range(rows)]))
        found[m] = sum(values) / len(values)
    return found


def slow_contrast(units: Sequence[Rows], labels: Sequence[int], temperature: float) -> float:
    """NT-Xent with labels, of unit features of every modality: the mean over pairs of one label."""
    rows = [(row, label) for features in units for row, label in zip(features, labels, strict=True)]
    terms = []
    for a, (anchor, label) in enumerate(rows):
        sims = [sum(x * y for x, y in zip(anchor, row, strict=True)) / temperature for row, _ in rows]
        negatives = sum(math.exp(s) for s, (_, other) in zip(sims, rows, strict=True) if other != label)
        for p, (_, other) in enumerate(rows):
            if p != a and other == label:
                terms.append(-math.log(math.exp(sims[p]) / (math.exp(sims[p]) + negatives)))
    return sum(terms) / len(terms)
