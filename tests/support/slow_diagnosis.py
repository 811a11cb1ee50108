"""The diagnosis once more: scikit-learn, plain Python loops, and nothing of ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler


def slow_purity(clusters: list[int], labels: list[int]) -> float:
    correct = 0
    for cluster in set(clusters):
        counts: dict[int, int] = {}
        for found, label in zip(clusters, labels, strict=True):
            if found == cluster:
                counts[label] = counts.get(label, 0) + 1
        correct += max(counts.values())
    return correct / len(labels)


def slow_diagnosis(
    train: Any,
    labels_train: Any,
    val: Any,
    labels_val: Any,
    *,
    num_classes: int,
    lambda_: float,
    options: dict[str, Any],
) -> dict[str, float]:
    """Purities, gap and strength; `options` are those of MeasureSettings."""
    train, labels_train = np.asarray(train), np.asarray(labels_train)
    val, labels_val = np.asarray(val), np.asarray(labels_val)
    if options.get("match_sizes"):
        rows = sorted(np.random.default_rng([0, 0]).choice(len(train), len(val), replace=False))
        train, labels_train = train[rows], labels_train[rows]
    scaler = MinMaxScaler((-1, 1))
    purities = []
    for features, labels in ((train, labels_train), (val, labels_val)):
        if features is train or options.get("scaler") != "from_train":
            scaler.fit(features)
        kmeans = KMeans(num_classes, n_init=options.get("restarts", 10), random_state=0)
        clusters = kmeans.fit(scaler.transform(features)).labels_
        purities.append(slow_purity(clusters.tolist(), labels.tolist()))
    gap = purities[0] - purities[1]
    gap = max(gap, 0.0) if options.get("gap") == "signed" else abs(gap)
    return {
        "purity_train": purities[0],
        "purity_val": purities[1],
        "gap": gap,
        "strength": math.tanh(lambda_ * gap),
    }
