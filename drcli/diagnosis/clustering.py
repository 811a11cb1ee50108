"""K-means over the representations of one modality, behind one function for every engine.

One engine is scikit-learn's, in double precision as the authors' program computes. The other is Lloyd's K-means in
torch: every restart in one batch, the same code on the CPU and on CUDA. It lowers the sum of squared distances to the
nearest centre by Lloyd's iteration (IEEE Trans. Inf. Theory 28, 1982) from greedy k-means++ starts (Arthur,
Vassilvitskii, SODA 2007). Starts, stopping rule and empty clusters are those of scikit-learn's `KMeans`: the two differ
by chance and rounding alone.

Shapes: N rows of D features, K clusters, R restarts, L candidates for a start.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

TOLERANCE = 1e-4  # of the mean variance of a feature, for the squared shift of all centres
MAX_STEPS = 300

MEMORY = 2**26  # elements of the largest temporary tensor: 256 MiB of float32
BLOCK = {"cpu": 2**20, "cuda": MEMORY}  # elements of the distances at once: what a cache holds, or MEMORY
LOOK_EVERY = {"cpu": 1, "cuda": 4}  # steps between two looks at what has converged: a GPU waits for each


@dataclass(frozen=True)
class Points:
    """What is clustered.

    Attributes:
        rows: (N, D), less their mean, which keeps the rounding error of distances small.
        squares: (N,), |x|^2.
        noise: (N,), squared distances up to which another point cannot be told from this one.
    """

    rows: Tensor
    squares: Tensor
    noise: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Points:
        """The points of a matrix (N, D)."""
        rows = features - features.mean(dim=0)
        squares = rows.square().sum(dim=1)
        # |x|^2 - 2 x.c + |c|^2 has an error of about sqrt(D) roundings of |x|^2 where c is close to x.
        return cls(rows, squares, 4 * math.sqrt(rows.shape[1]) * torch.finfo(rows.dtype).eps * squares)

    def blocks(self, height: int) -> tuple[Tensor, ...]:
        """The rows in pieces (rows, D) of which a tensor (height, rows) keeps to BLOCK."""
        return torch.split(self.rows, max(1, BLOCK[self.rows.device.type] // height))


def kmeans(features: Tensor, num_clusters: int, restarts: int, seed: int) -> Tensor:
    """Return the clusters of the best of several K-means runs.

    A pure function of its arguments on one device and, on the CPU, one number of threads: matrix products
    may add up in another order with more threads, and sums rounded differently can end in other
    clusters. It holds for torch's deterministic mode too, and no global generator is read or advanced.

    Args:
        features: (N, D), float32 or float64, finite, N >= num_clusters.
        num_clusters: K > 0.
        restarts: R > 0; the run of least inertia counts.
        seed: seed of all starts.

    Returns:
        (N,) int64 in 0..K-1, on the features' device. With fewer than K distinct rows some are empty.
    """
    generator = torch.Generator().manual_seed(seed)
    trials = 2 + int(math.log(num_clusters))
    draws = torch.rand(restarts, num_clusters, trials, generator=generator, dtype=torch.float64)
    at_once = max(1, MEMORY // (trials * len(features)))
    with _full_precision(features.device):
        points = Points.of(features)
        runs = [
            lloyd(points, *seeding(points, some), num_clusters)
            for some in torch.split(draws.to(features.device), at_once)
        ]
    labels, inertia = (torch.cat(parts) for parts in zip(*runs, strict=True))
    return labels[inertia.argmin()]


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Multiply in the features' own precision, whatever a program allows its training."""
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def seeding(points: Points, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clusters around the starts that greedy k-means++ chooses.

    The first start is any row. Of L rows drawn with a probability proportional to the squared distance
    to the nearest start so far, the next one is that which leaves the least sum of these distances.

    Args:
        points: N rows.
        draws: (R, K, L) uniform numbers in [0, 1), float64.

    Returns:
        The nearest start of each row, (R, N) in 0..K-1, and the squared distance to it, (R, N). A start
        that is the copy of an earlier one is the nearest of no row.
    """
    restarts, num_clusters, trials = draws.shape
    each = torch.arange(restarts, device=draws.device)
    gaps = _distances_to_rows(points, (draws[:, 0, 0] * len(points.rows)).long())
    labels = torch.zeros_like(gaps, dtype=torch.int64)
    for k in range(1, num_clusters):
        candidates = _draw(gaps, draws[:, k])
        left = _distances_to_rows(points, candidates.flatten()).view(restarts, trials, -1)
        torch.minimum(left, gaps[:, None], out=left)
        closest = left[each, left.sum(dim=2).argmin(dim=1)]
        labels.masked_fill_(closest < gaps, k)
        gaps = closest
    return labels, gaps


def _draw(weights: Tensor, draws: Tensor) -> Tensor:
    """Return rows (R, L), drawn by weights (R, N) and numbers (R, L); any row where all weights are zero.

    Weights are rounded to 2^-32 of the largest: sums of integers do not depend on their order.
    """
    largest = weights.amax(dim=1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    sums = (weights / largest * 2**32).long().cumsum(dim=1)
    rows = torch.searchsorted(sums, (draws * sums[:, -1:]).long(), right=True)
    return rows.clamp_max(weights.shape[1] - 1)


def _distances_to_rows(points: Points, chosen: Tensor) -> Tensor:
    """Return squared distances (C, N) of all rows to the chosen ones (C,), zero where none is measurable."""
    squares = points.squares[chosen, None]
    distances = torch.addmm(squares, points.rows[chosen], points.rows.T, alpha=-2).add_(points.squares)
    return distances.masked_fill_(distances <= points.noise, 0.0)


def lloyd(points: Points, labels: Tensor, gaps: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Return the clusters (R, N) at which each restart comes to rest, and their inertia (R,), float64.

    A restart rests when no label changes, when its centres move by no more than TOLERANCE says, or after
    MAX_STEPS. Restarts are returned in the order in which they finish, and cost nothing from then on; on
    CUDA they may take up to three steps more, which only lowers their inertia.

    Args:
        points: N rows.
        labels: (R, N), clusters to start from.
        gaps: (R, N), squared distance of each row to what made it a member of its cluster.
        num_clusters: K.
    """
    device = points.rows.device
    limit = TOLERANCE * points.squares.mean() / points.rows.shape[1]
    centres = torch.full((), torch.inf, device=device)
    done = torch.zeros(len(labels), dtype=torch.bool, device=device)
    finished: list[tuple[Tensor, Tensor]] = []
    for step in range(1, MAX_STEPS + 1):
        before, previous = labels, centres
        centres, norms = _centres(points, _fill_empty(points, labels, gaps, num_clusters), num_clusters)
        labels, gaps = _assign(points, centres, norms)
        done |= (labels == before).all(dim=1) | ((centres - previous).square().sum(dim=(1, 2)) <= limit)
        if step % LOOK_EVERY[device.type] == 0:
            stop = done if step < MAX_STEPS else torch.ones_like(done)
            ends, goes_on = stop.nonzero().flatten(), stop.logical_not().nonzero().flatten()
            finished.append((labels[ends], gaps[ends].sum(dim=1, dtype=torch.float64)))
            labels, gaps, centres, done = (kept[goes_on] for kept in (labels, gaps, centres, done))
            if len(labels) == 0:
                break
    all_labels, inertia = (torch.cat(parts) for parts in zip(*finished, strict=True))
    return all_labels, inertia


def _assign(points: Points, centres: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest centre of each row, (R, N), and the squared distance to it, (R, N).

    Args:
        points: N rows.
        centres: (R, K, D).
        norms: |c|^2 of each centre, (R, K); infinite: the nearest of no row.
    """
    restarts, num_clusters, width = centres.shape
    flat, offsets = centres.view(-1, width), norms.view(-1, 1)
    nearest = [
        torch.addmm(offsets, flat, rows.T, alpha=-2).view(restarts, num_clusters, -1).min(dim=1)
        for rows in points.blocks(len(flat))
    ]
    gaps = torch.cat([found.values for found in nearest], dim=1).add_(points.squares).clamp_min_(0)
    return torch.cat([found.indices for found in nearest], dim=1), gaps


def _fill_empty(points: Points, labels: Tensor, gaps: Tensor, num_clusters: int) -> Tensor:
    """Return labels (R, N) in which the j-th empty cluster of a restart has the j-th farthest row.

    A cluster stays empty if no such row can be told from the centre it has. Nothing here waits for the
    device, so that all of it happens, empty clusters or not.
    """
    empty = _counts(labels, num_clusters) == 0
    distances, farthest = torch.where(gaps > points.noise, gaps, 0).topk(num_clusters, dim=1)
    place = empty.cumsum(dim=1).sub_(1).clamp_min_(0)
    fill = empty & (distances.gather(1, place) > 0)
    # What is not to be filled is written into one more column, to be cut off.
    rows = farthest.gather(1, place).masked_fill_(~fill, labels.shape[1])
    clusters = torch.arange(num_clusters, device=labels.device).expand_as(rows)
    return F.pad(labels, (0, 1)).scatter_(1, rows, clusters)[:, :-1]


def _centres(points: Points, labels: Tensor, num_clusters: int) -> tuple[Tensor, Tensor]:
    """Return the means (R, K, D) of the clusters and their squares (R, K), zero and infinity if empty."""
    counts = _counts(labels, num_clusters)
    total = _sums_in_order if labels.device.type == "cpu" else _sums_by_product
    centres = total(points, labels, counts) / counts.clamp_min(1).unsqueeze(2)
    return centres, torch.where(counts > 0, centres.square().sum(dim=2), torch.inf)


def _counts(labels: Tensor, num_clusters: int) -> Tensor:
    """Return how many rows each cluster has, (R, K) int64."""
    if labels.device.type == "cuda" and labels.numel() * num_clusters <= MEMORY:
        # A deterministic index_add_ sorts on CUDA; this does not, but makes numbers (R, K, N) of what it counts.
        return (labels[:, None] == torch.arange(num_clusters, device=labels.device)[:, None]).sum(dim=2)
    keys = _keys(labels, num_clusters)
    return keys.new_zeros(len(labels) * num_clusters).index_add_(0, keys, torch.ones_like(keys)).view(-1, num_clusters)


def _keys(labels: Tensor, num_clusters: int) -> Tensor:
    """Return labels (R, N) as numbers (R * N,) that no two restarts share."""
    return (labels + num_clusters * torch.arange(len(labels), device=labels.device)[:, None]).flatten()


def _sums_in_order(points: Points, labels: Tensor, counts: Tensor) -> Tensor:
    """Return the sum of each cluster's rows, (R, K, D): rows by cluster, one after another.

    Reads each row once per restart; the order of summation does not depend on the number of threads.
    """
    members = _keys(labels, counts.shape[1]).argsort(stable=True).remainder_(labels.shape[1])
    ends = counts.flatten().cumsum(dim=0)
    sums = F.embedding_bag(members, points.rows, ends - counts.flatten(), mode="sum")
    return sums.view(*counts.shape, -1)


def _sums_by_product(points: Points, labels: Tensor, counts: Tensor) -> Tensor:
    """Return the same by products with one-hot matrices, which a GPU is made for."""
    clusters = torch.arange(counts.shape[1], device=labels.device)[:, None]
    sums = points.rows.new_zeros(counts.numel(), points.rows.shape[1])
    start = 0
    for rows in points.blocks(counts.numel()):
        members = labels[:, None, start : start + len(rows)] == clusters
        sums.addmm_(members.to(rows.dtype).flatten(end_dim=1), rows)
        start += len(rows)
    return sums.view(*counts.shape, -1)


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
    constant = _is_constant(low, high)
    if features.dtype == torch.float64:  # in the order of scikit-learn's MinMaxScaler, bit for bit
        scale = 1 / torch.where(constant, 0.5, high - low)
        return torch.where(constant & (reference is features), -1.0, features * scale + (-1 - 2 * low * scale))
    return (features / 2 - low) / torch.where(constant, 0.5, high - low) * 2 - 1


def in_precision(features: Tensor, engine: str) -> Tensor:
    """Return features in the precision in which an engine is to see them: scikit-learn float64, torch their own.

    Features in float64 give the purities of the authors' rule to the last digit; in float32 points between two
    centres can fall to the other one. A dimension that is constant but for the rounding of its own type stays so.
    """
    is_sklearn = engine == "sklearn" or (engine == "auto" and not features.is_cuda)
    if not is_sklearn or features.dtype == torch.float64:
        return features
    return torch.where(constant_dimensions(features), features[0], features).double()


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

    found = KMeans(num_clusters, n_init=restarts, random_state=seed)
    # Threads add up the centres in the order in which they finish; sums rounded differently can end in
    # other clusters. On one thread the result depends neither on their number nor on chance.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Fewer distinct points than clusters (a collapsed encoder): empty clusters do not change purity.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found.fit(features.double().cpu().numpy())
    return torch.from_numpy(found.labels_).long()


def _cluster_torch(features: Tensor, num_clusters: int, restarts: int, seed: int) -> Tensor:
    return kmeans(features, num_clusters, restarts, seed).cpu()


def _cluster_auto(features: Tensor, num_clusters: int, restarts: int, seed: int) -> Tensor:
    engine = _cluster_torch if features.is_cuda else _cluster_sklearn
    return engine(features, num_clusters, restarts, seed)


ENGINES: Mapping[str, Engine] = {"auto": _cluster_auto, "sklearn": _cluster_sklearn, "torch": _cluster_torch}
