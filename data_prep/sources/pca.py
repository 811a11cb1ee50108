"""Principal components, to remove a share of the energy of images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reduction:
    """A linear map that keeps the leading principal components of vectors of size D.

    Attributes:
        mean: (D,) mean of the vectors it was fitted to.
        basis: (D, K) orthonormal leading components.
        gains: (K,) factor of each component: 1, except for the last.
    """

    mean: Floats
    basis: Floats
    gains: Floats

    def apply(self, vectors: NDArray[np.uint8]) -> Floats:
        """The vectors (N, D) with nothing left but the kept components."""
        reduced: Floats = self.mean + (vectors - self.mean) @ self.basis * self.gains @ self.basis.T
        return reduced


def fit_reduction(vectors: NDArray[np.uint8], energy: float) -> Reduction:
    """The reduction that keeps a share of the variance of the given vectors, exactly.

    The leading components that are needed are kept; the last of them is attenuated by the g with
    l_1 + ... + l_(K-1) + g^2 l_K = energy * (l_1 + ... + l_D), l being the variances.

    Args:
        vectors: (N, D) bytes; they must not all be equal.
        energy: the share to keep, in (0, 1].
    """
    mean = vectors.mean(axis=0, dtype=np.float64)
    variances, basis = np.linalg.eigh(_second_moment(vectors) - np.outer(mean, mean))
    # The solver's last digits depend on the number of threads; a pixel that is always 0 must stay 0.
    variances, basis = np.maximum(variances[::-1], 0.0), basis[:, ::-1].round(12)
    reached = np.cumsum(variances)
    wanted = energy * reached[-1]
    count = min(int(np.searchsorted(reached, wanted)) + 1, len(reached))
    gains = np.ones(count)
    before = reached[count - 1] - variances[count - 1]
    gains[-1] = np.sqrt((wanted - before) / variances[count - 1])
    return Reduction(mean, basis[:, :count], gains)


def _second_moment(vectors: NDArray[np.uint8]) -> Floats:
    """E[x x'] (D, D); sums of products of bytes are exact in float64, in any order."""
    total = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(vectors), 4096):
        piece = vectors[start : start + 4096].astype(np.float64)
        total += piece.T @ piece
    return total / len(vectors)
