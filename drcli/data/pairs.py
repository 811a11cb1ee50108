"""Rows that a modality has beyond its pairs, and the pairs that an epoch of training makes of them.

Where modalities are independent given the class, as sound and picture of a spoken and a written digit are, any two
rows of a class are a sample. A prepared dataset then keeps a pool: more rows of a modality, each with its class.
Validation, test and diagnosis see the stored pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from drcli.data.rows import StoredRows


@dataclass(frozen=True)
class Pool:
    """Rows of one modality that are paired with none of the others.

    Attributes:
        stored: its array (P, ...).
        labels: (P,) int64 class indices; every class of the training split is among them.
    """

    stored: StoredRows
    labels: Tensor


def draw_partners(labels: Tensor, pool_labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return for each sample a row of the pool of its class, (N,) int64.

    None is taken twice before all of the class were.

    Args:
        labels: (N,) class of each sample.
        pool_labels: (P,) class of each row of the pool; all of `labels` occur in it.
        generator: decides; on the CPU.
    """
    partners = torch.empty_like(labels)
    for label in labels.unique():
        samples = (labels == label).nonzero()[:, 0]
        rows = (pool_labels == label).nonzero()[:, 0]
        rounds = -(-len(samples) // len(rows))
        drawn = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for _ in range(rounds)])
        partners[samples] = drawn[: len(samples)]
    return partners
