"""Gradient-guided distillation once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_softmax(row: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Probabilities of logits divided by a temperature."""
    exponentials = [math.exp(z / temperature) for z in row]
    return [e / sum(exponentials) for e in exponentials]


def slow_distillation(logits: Rows, teacher: Rows, temperature: float) -> float:
    """T^2 times the mean over the samples of KL(teacher || student)."""
    total = 0.0
    for ours, theirs in zip(logits, teacher, strict=True):
        for p, q in zip(slow_softmax(theirs, temperature), slow_softmax(ours, temperature), strict=True):
            total += p * math.log(p / q)
    return temperature**2 * total / len(logits)


def slow_strongest(logits: Mapping[str, Rows], labels: Sequence[int]) -> str | None:
    """The modality whose teacher is surest of the true classes; None for a tie."""
    best: list[str] = []
    most = -1.0
    for m, rows in logits.items():
        score = 0.0
        for row, label in zip(rows, labels, strict=True):
            score += slow_softmax(row)[label]
        if score == most:
            best.append(m)
        elif score > most:
            best, most = [m], score
    return best[0] if len(best) == 1 else None
