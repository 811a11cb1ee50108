"""A part of the rows of a set, drawn by class: purity changes little with it, and the cost of a diagnosis much."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def stratified_rows(labels: Tensor, count: int, seed: int = 0) -> Tensor:
    """Return `count` of N rows, ascending, in which every class has its share of all rows.

    A class c of n_c rows gets the whole part of count * n_c / N; what is left goes to the classes with the largest
    remainders, of equal ones to the first. Within a class each row is as likely as any other. The same arguments
    give the same rows; no global generator is read or advanced.

    Args:
        labels: class of each row, (N,) integers, on any device.
        count: > 0; N or more gives all rows.
        seed: of the draws.

    Returns:
        Row numbers (min(count, N),), int64, on the CPU.
    """
    classes: NDArray[np.int64] = labels.cpu().numpy()
    if count >= len(classes):
        return torch.arange(len(classes))
    generator = np.random.default_rng([seed, 2])
    _, members, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    drawn = [
        generator.choice(np.flatnonzero(members == number), wanted, replace=False)
        for number, wanted in enumerate(_shares(sizes, count))
    ]
    return torch.from_numpy(np.sort(np.concatenate(drawn)))


def _shares(sizes: NDArray[np.int64], count: int) -> list[int]:
    """Return how many of `count` rows each class gets, by its size: the method of the largest remainders."""
    wholes, remainders = np.divmod(sizes * count, sizes.sum())
    first = np.argsort(-remainders, kind="stable")[: count - int(wholes.sum())]
    wholes[first] += 1
    return [int(number) for number in wholes]


def present_only(
    features: Mapping[str, Tensor], labels: Tensor, present: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], Tensor | Mapping[str, Tensor]]:
    """Return the features {m: (N_m, D_m)} and labels {m: (N_m,)} of the rows that have each modality.

    Args:
        features: {m: (N, D_m)}.
        labels: (N,).
        present: which rows have a modality, {m: (N,)}, bool; of one that is left out, all have. Where there is none,
            features and labels are returned as they are.
    """
    if not present:
        return features, labels
    rows = {m: present[m].nonzero()[:, 0] if m in present else torch.arange(len(labels)) for m in features}
    return (
        {m: x[rows[m].to(x.device)] for m, x in features.items()},
        {m: labels[rows[m].to(labels.device)] for m in features},
    )
