"""Representations in two dimensions, for a picture of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
MOST_POINTS = 1000
PRINCIPAL_COMPONENTS = 50


@dataclass(frozen=True)
class Map:
    """Where the rows of one modality lie in the plane.

    Attributes:
        points: (P, 2).
        labels: (P,) class indices.
        is_val: (P,) whether a row is one of validation.
        rows: how many rows there are; more than P where points were drawn from them.
    """

    points: Array
    labels: Array
    is_val: Array
    rows: int


def embed(train: Tensor, labels_train: Tensor, val: Tensor, labels_val: Tensor, *, seed: int = 0) -> Map:
    """Return a map of both splits together; the same arguments give the same map.

    Dimensions are scaled to [-1, 1] as for clustering, but over both splits, which share the map.

    Args:
        train: (N, D).
        labels_train: (N,).
        val: (M, D).
        labels_val: (M,).
        seed: which rows are drawn if there are more than 1000, of both splits alike.
    """
    import torch

    labels = np.concatenate([labels_train.cpu().numpy(), labels_val.cpu().numpy()])
    is_val = np.arange(len(labels)) >= len(train)
    rows, points = embed_features(torch.cat([train.cpu(), val.cpu()]), seed=seed)
    return Map(points, labels[rows], is_val[rows], len(labels))


def embed_features(features: Tensor, *, seed: int = 0) -> tuple[Array, Array]:
    """Return which rows were taken, (P,), and their places in the plane, (P, 2); the same arguments, the same map.

    Args:
        features: (N, D).
        seed: which rows are drawn if there are more than 1000.
    """
    import torch

    from drcli.diagnosis import scale_features

    rows = np.random.default_rng(seed).permutation(len(features))[:MOST_POINTS]
    scaled = scale_features(features)[torch.from_numpy(rows)]
    return rows, tsne(principal_components(scaled.double().numpy()))


def principal_components(features: Array) -> Array:
    """Return up to 50 leading principal components of (N, D), and at least two: the rest is zeros."""
    centred = features - features.mean(axis=0)
    directions, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    components = (directions * sizes)[:, :PRINCIPAL_COMPONENTS]
    return np.pad(components, ((0, 0), (0, max(0, 2 - components.shape[1]))))


def tsne(components: Array) -> Array:
    """Return the places in the plane (P, 2) of principal components (P, 2 or more), by t-SNE."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    spread = components[:, 0].std()
    if spread < 1e-6:  # all rows are the same point
        return np.zeros((len(components), 2))
    # From the first two components, small as t-SNE wants it: the map keeps the coarse arrangement.
    start = components[:, :2] / spread * 1e-4
    perplexity = min(30.0, (len(components) - 1) / 3)
    with threadpool_limits(limits=1):  # sums of several threads are not repeatable
        points: Array = TSNE(init=start, perplexity=perplexity, random_state=0).fit_transform(components)
    return points
