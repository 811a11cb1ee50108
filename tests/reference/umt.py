"""The distance to a teacher once more, literally: plain Python, one number after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[float]]


def slow_mse(student: Rows, teacher: Rows, reduction: str) -> float:
    """Mean over the samples of the squared differences of their features, averaged or added up over the features."""
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        squares = [(h - t) ** 2 for h, t in zip(ours, theirs, strict=True)]
        total += sum(squares) / (len(squares) if reduction == "mean" else 1)
    return total / len(student)


def slow_umt(students: Mapping[str, Rows], teachers: Mapping[str, Rows], weight: float, reduction: str) -> float:
    """weight * sum over m of MSE(h_m, t_m): all that is added to the fused loss."""
    total = 0.0
    for m, rows in students.items():
        total += weight * slow_mse(rows, teachers[m], reduction)
    return total
