"""Modality dropout once more, literally: plain Python, one sample after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def slow_kept(drawn: Mapping[str, Sequence[float]], p: float) -> dict[str, list[bool]]:
    """What each sample keeps: a modality is dropped where its number is below p, but never all of them."""
    found: dict[str, list[bool]] = {m: [] for m in drawn}
    for number in range(len(next(iter(drawn.values())))):
        dropped = [m for m, values in drawn.items() if values[number] < p]
        if len(dropped) == len(drawn):
            dropped.remove(max(drawn, key=lambda m: drawn[m][number]))
        for m, kept in found.items():
            kept.append(m not in dropped)
    return found


def slow_left(
    features: Mapping[str, Sequence[Sequence[float]]],
    kept: Mapping[str, Sequence[bool]],
    tokens: Mapping[str, Sequence[float]],
) -> dict[str, list[list[float]]]:
    """The features, with the token where a sample does not keep them."""
    found = {}
    for m, rows in features.items():
        found[m] = [list(row) if keep else list(tokens[m]) for row, keep in zip(rows, kept[m], strict=True)]
    return found
