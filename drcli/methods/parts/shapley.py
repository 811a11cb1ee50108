"""Shapley values of modalities (Shapley 1953): what each adds to the coalitions of the others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor

Coalition = frozenset[str]


def coalitions(modalities: Sequence[str]) -> Iterator[Coalition]:
    """Yield the non-empty subsets, 2^M - 1 of them, smaller ones first."""
    for size in range(1, len(modalities) + 1):
        yield from map(frozenset, combinations(modalities, size))


def shapley_weights(modalities: Sequence[str]) -> dict[str, dict[Coalition, float]]:
    """Return w with phi_m = sum over coalitions S of w[m][S] f(S), the Shapley value where f(empty) = 0.

    w[m][S] = (|S| - 1)! (M - |S|)! / M! if m is in S, else -|S|! (M - |S| - 1)! / M! (Shapley 1953).
    """
    total = len(modalities)

    def weight_of(m: str, coalition: Coalition) -> float:
        before = len(coalition - {m})
        weight = math.factorial(before) * math.factorial(total - 1 - before) / math.factorial(total)
        return weight if m in coalition else -weight

    return {m: {coalition: weight_of(m, coalition) for coalition in coalitions(modalities)} for m in modalities}


def weighted_sum(weights: Mapping[Coalition, float], values: Mapping[Coalition, Tensor]) -> Tensor:
    """Return the weighted sum of the coalitions' values, of their shape."""
    return torch.stack([weight * values[coalition] for coalition, weight in weights.items()]).sum(dim=0)
