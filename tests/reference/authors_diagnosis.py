"""The authors' rule, literally: what their script does with the features of one modality (arXiv 2407.09705)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler

Matrix = NDArray[np.float64]
Labels = NDArray[np.int64]


def authors_purity(features: Matrix, labels: Labels, num_classes: int, n_init: int) -> float:
    """Purity of K-means clusters of features scaled to [-1, 1]; their call leaves `n_init` to scikit-learn."""
    scaled = MinMaxScaler(feature_range=(-1, 1)).fit_transform(features)
    clusters = KMeans(n_clusters=num_classes, random_state=0, n_init=n_init).fit(scaled).labels_
    right = 0
    for cluster in range(num_classes):
        members = [int(label) for label, found in zip(labels, clusters, strict=True) if found == cluster]
        right += max((members.count(label) for label in set(members)), default=0)
    return right / len(labels)


def authors_rule(
    train: tuple[Matrix, Labels], val: tuple[Matrix, Labels], num_classes: int, lambda_: float, n_init: int = 1
) -> tuple[float, float, float, float]:
    """Return both purities, their gap and the strength of re-initialisation."""
    on_train = authors_purity(*train, num_classes, n_init)
    on_val = authors_purity(*val, num_classes, n_init)
    gap = abs(on_train - on_val)
    return on_train, on_val, gap, math.tanh(lambda_ * gap)
