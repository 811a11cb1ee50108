"""Modality valuation once more, literally: orders of arrival, rows and copies in plain loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations


def slow_shapley(right: Mapping[frozenset[str], bool], modalities: Sequence[str]) -> dict[str, float]:
    """What a modality adds to those that arrived before it, on average over all orders of arrival."""

    def value(members: frozenset[str]) -> float:
        return float(len(members)) if members and right[members] else 0.0

    orders = list(permutations(modalities))
    found = dict.fromkeys(modalities, 0.0)
    for order in orders:
        for i, m in enumerate(order):
            before = frozenset(order[:i])
            found[m] += (value(before | {m}) - value(before)) / len(orders)
    return found


def slow_list(values: Sequence[Mapping[str, float]]) -> list[tuple[int, tuple[str, ...]]]:
    """Rows with the modalities seen of them: all rows, and the copies, sorted."""
    modalities = tuple(sorted(values[0]))
    listed = [(i, modalities) for i in range(len(values))]
    for i, of_row in enumerate(values):
        for m, phi in of_row.items():
            if 0.4 <= phi < 1:
                times = 1
            elif -0.1 <= phi < 0.4:
                times = 2
            elif phi < -0.1:
                times = 3
            else:
                times = 0
            listed += [(i, (m,))] * times
    return sorted(listed)
