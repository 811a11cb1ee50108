"""Samples that a split shares with another one: scores on them say nothing about new data."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from data_prep.writing.writer import SplitWriter

_PAIRS = (("val", "train"), ("test", "train"), ("test", "val"))


def report_repeated(
    parts: Mapping[str, SplitWriter], origins: Mapping[str, str], warn: Callable[[str], None]
) -> dict[str, dict[str, int]]:
    """How many rows of a split are in another one, value for value in every modality; warns of them.

    Args:
        parts: the written splits.
        origins: the file that each split comes from.
        warn: receives one line for each pair of splits that share rows.

    Returns:
        {split: {other split: number of rows of the first}}, without zeros.
    """
    digests = {split: row_digests(part) for split, part in parts.items()}
    found: dict[str, dict[str, int]] = {}
    for split, other in _PAIRS:
        known = set(digests[other])
        count = sum(digest in known for digest in digests[split])
        if count:
            found.setdefault(split, {})[other] = count
            warn(
                f"{origins[split]}: {count} of the {len(digests[split])} samples of {split} are also in {other}, equal "
                f"in every modality; scores on them say nothing about new data: remove them from one of the two"
            )
    return found


def row_digests(part: SplitWriter) -> list[bytes]:
    """One digest for each row, over the stored values of all modalities."""
    arrays = [array for _, array in sorted(part.arrays.items())]
    return [_digest(*(np.ascontiguousarray(array[row]).data for array in arrays)) for row in range(part.rows)]


def _digest(*pieces: memoryview) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()
