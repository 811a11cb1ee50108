"""Representations in two dimensions, for a picture of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
PRINCIPAL_COMPONENTS = 50


def embed(features: Array, most_rows: int, *, seed: int = 0) -> tuple[Array, Array]:
    """Return which rows were taken, (P,), and their places in the plane, (P, 2); the same arguments, the same map.

    Args:
        features: (N, D), finite; dimensions are scaled to [-1, 1] as for clustering.
        most_rows: of more, so many are drawn at random.
        seed: of the draw.
    """
    rows = np.random.default_rng(seed).permutation(len(features))[:most_rows]
    return rows, tsne(principal_components(scaled(features)[rows]))


def scaled(features: Array) -> Array:
    """Return features (N, D) scaled linearly so that each dimension spans [-1, 1]; a constant one becomes -1."""
    wide = features.astype(np.float64)
    low, spread = wide.min(axis=0), np.ptp(wide, axis=0)
    placed: Array = 2 * (wide - low) / np.where(spread > 0, spread, 1) - 1
    return placed


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
