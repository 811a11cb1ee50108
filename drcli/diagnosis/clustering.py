"""K-means over the representations of one modality, behind one function for every engine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from drcli.diagnosis.kmeans import kmeans

# An engine takes features (N, D), the number of clusters, of restarts, and the seed; it returns (N,).
Engine = Callable[[Tensor, int, int, int], Tensor]


def scale_features(features: Tensor, reference: Tensor | None = None) -> Tensor:
    """Return features scaled linearly so that each dimension of the reference spans [-1, 1].

        x' = 2 (x - min) / (max - min) - 1

    A dimension is constant if it spans no more than the rounding error of its own magnitude, whatever its
    unit; it becomes -1. (scikit-learn's MinMaxScaler compares with the rounding error of 1, and so takes
    every feature in small units for constant.)

    Args:
        features: (N, D).
        reference: (M, D) that gives minimum and maximum of each dimension; the features themselves if
            None. Features outside the reference's range come out beyond [-1, 1].

    Returns:
        (N, D) on the same device; float64 stays, every other type becomes float32.

    Raises:
        ValueError: a shape is not (N, D) with N > 0, or the dimensions D differ.
    """
    features = _as_matrix(features)
    reference = features if reference is None else _as_matrix(reference).to(features)
    if reference.shape[1] != features.shape[1]:
        raise ValueError(f"the reference has {reference.shape[1]} dimensions, features {features.shape[1]}")
    # Halved, so that the difference of two large values of opposite sign does not overflow.
    low, high = reference.amin(dim=0) / 2, reference.amax(dim=0) / 2
    spread = high - low
    return (features / 2 - low) / torch.where(_is_constant(low, high), 0.5, spread) * 2 - 1


def constant_dimensions(features: Tensor) -> Tensor:
    """Return which dimensions of features (N, D) are constant, as `scale_features` judges it: (D,) bool.

    Raises:
        ValueError: the shape is not (N, D) with N > 0.
    """
    features = _as_matrix(features)
    return _is_constant(features.amin(dim=0) / 2, features.amax(dim=0) / 2)


def _is_constant(low: Tensor, high: Tensor) -> Tensor:
    """Whether the two are the same except for rounding, at their own magnitude: not at that of 1."""
    rounding = torch.finfo(low.dtype)
    return high - low <= (5 * rounding.eps * torch.maximum(low.abs(), high.abs())).clamp(min=rounding.tiny)


def _as_matrix(features: Tensor) -> Tensor:
    if features.ndim != 2 or features.numel() == 0:
        raise ValueError(f"features must have the shape (N, D) with N, D > 0, got {tuple(features.shape)}")
    return features.detach().to(torch.float64 if features.dtype == torch.float64 else torch.float32)


def cluster(features: Tensor, num_clusters: int, *, restarts: int = 10, seed: int = 0, engine: str = "auto") -> Tensor:
    """Return the K-means cluster of each sample; the same arguments give the same clusters.

    No global random generator is read or advanced.

    Args:
        features: (N, D), finite, N >= num_clusters.
        num_clusters: number of clusters K > 0.
        restarts: number of k-means++ starts, > 0; the one of least inertia is returned.
        seed: seed of the starts.
        engine: "sklearn" is the reference and computes on one thread of the CPU; "torch" computes where the
            features are; "auto" is "torch" for features on CUDA and "sklearn" for all others.

    Returns:
        (N,) int64 on the CPU, in 0..K-1. With fewer than K distinct points some clusters are empty.

    Raises:
        ValueError: bad shape, non-finite features, fewer samples than clusters, or unknown engine.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; known: {', '.join(ENGINES)}")
    features = _as_matrix(features)
    if not 0 < num_clusters <= len(features):
        raise ValueError(f"{len(features)} samples cannot make {num_clusters} clusters")
    if restarts < 1:
        raise ValueError(f"restarts must be positive, got {restarts}")
    if not torch.isfinite(features).all():
        raise ValueError("features must be finite")
    return ENGINES[engine](features, num_clusters, restarts, seed)


def _cluster_sklearn(features: Tensor, num_clusters: int, restarts: int, seed: int) -> Tensor:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    kmeans = KMeans(num_clusters, n_init=restarts, random_state=seed)
    # Threads add up the centres in the order in which they finish; sums rounded differently can end in
    # other clusters. On one thread the result depends neither on their number nor on chance.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Fewer distinct points than clusters (a collapsed encoder): empty clusters do not change purity.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(features.cpu().numpy())
    return torch.from_numpy(kmeans.labels_).long()


def _cluster_torch(features: Tensor, num_clusters: int, restarts: int, seed: int) -> Tensor:
    return kmeans(features, num_clusters, restarts, seed).cpu()


def _cluster_auto(features: Tensor, num_clusters: int, restarts: int, seed: int) -> Tensor:
    engine = _cluster_torch if features.is_cuda else _cluster_sklearn
    return engine(features, num_clusters, restarts, seed)


ENGINES: Mapping[str, Engine] = {"auto": _cluster_auto, "sklearn": _cluster_sklearn, "torch": _cluster_torch}
