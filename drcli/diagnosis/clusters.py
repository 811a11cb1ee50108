"""Purity: how well clusters agree with classes."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor


def purity(assignments: Tensor | ArrayLike, labels: Tensor | ArrayLike) -> float:
    """Return the share of samples that belong to the most frequent class of their cluster.

        P = (1/N) * sum over clusters k of max over classes j of |{i : c_i = k, y_i = j}|

    Invariant under renaming clusters and under renaming classes.

    Args:
        assignments: cluster c_i of each sample, (N,), any integers.
        labels: class y_i of each sample, (N,), any integers.

    Returns:
        A number in [frequency of the commonest class, 1].

    Raises:
        ValueError: the lengths differ, there are no samples, or an argument is not one-dimensional.
    """
    clusters, num_clusters = _renumber(assignments, "assignments")
    classes, num_classes = _renumber(labels, "labels")
    if len(clusters) != len(classes):
        raise ValueError(f"assignments and labels differ in length: {len(clusters)} and {len(classes)}")
    cells = torch.bincount(clusters * num_classes + classes, minlength=num_clusters * num_classes)
    return int(cells.view(num_clusters, num_classes).amax(dim=1).sum()) / len(clusters)


def _renumber(values: Tensor | ArrayLike, name: str) -> tuple[Tensor, int]:
    """Return the values as 0..K-1 in a tensor (N,) on the CPU, and K."""
    tensor = torch.as_tensor(values).detach().cpu()
    if tensor.ndim != 1 or len(tensor) == 0:
        raise ValueError(f"{name} must have the shape (N,) with N > 0, got {tuple(tensor.shape)}")
    distinct, renumbered = torch.unique(tensor, return_inverse=True)
    return renumbered, len(distinct)
