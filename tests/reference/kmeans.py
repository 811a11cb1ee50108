"""K-means once more, literally: one restart, one row, one centre after another, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def _nearest(points: Matrix, centres: Matrix) -> tuple[list[int], list[float]]:
    """Number of and squared distance to the nearest centre of each row."""
    labels, gaps = [], []
    for x in points:
        distances = [float(((x - c) ** 2).sum()) for c in centres]
        labels.append(distances.index(min(distances)))
        gaps.append(min(distances))
    return labels, gaps


def slow_seeding(points: Matrix, draws: Matrix) -> list[int]:
    """The rows that greedy k-means++ chooses, given its uniform numbers (K, L) in [0, 1)."""
    chosen = [int(draws[0, 0] * len(points))]
    for numbers in draws[1:]:
        _, gaps = _nearest(points, points[chosen])
        sums = np.cumsum(gaps)
        trials = [next(i for i, reached in enumerate(sums) if reached > u * sums[-1]) for u in numbers]
        left = [sum(_nearest(points, points[[*chosen, trial]])[1]) for trial in trials]
        chosen.append(trials[left.index(min(left))])
    return chosen


def slow_lloyd(points: Matrix, starts: Matrix, tolerance: float) -> tuple[list[int], float]:
    """Clusters and inertia after Lloyd's iteration from starts (K, D), as scikit-learn stops and fills it."""
    centres, before = starts, None
    limit = tolerance * points.var(axis=0).mean()
    for _ in range(300):
        labels, gaps = _nearest(points, centres)
        moved = np.array(_filled(labels, gaps, len(centres)))
        means = np.array([points[moved == k].mean(axis=0) for k in range(len(centres))])
        stop = labels == before or ((means - centres) ** 2).sum() <= limit
        centres, before = means, labels
        if stop:
            break
    labels, gaps = _nearest(points, centres)
    return labels, sum(gaps)


def _filled(labels: Sequence[int], gaps: Sequence[float], num_clusters: int) -> list[int]:
    """The labels once each empty cluster has taken the farthest row that is left."""
    farthest = sorted(range(len(gaps)), key=lambda row: -gaps[row])
    filled = list(labels)
    for k in range(num_clusters):
        if k not in labels:
            filled[farthest.pop(0)] = k
    return filled
