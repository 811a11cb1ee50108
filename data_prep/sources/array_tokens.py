"""Token ids of texts in .npz files of your own arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.array_files import Contents, read_lengths
from data_prep.sources.npz import Array, Stored
from data_prep.writing.splits import Indices
from data_prep.writing.writer import SplitWriter


def largest_id(files: Sequence[Contents], modality: str) -> int:
    """The largest token id of a modality (N, L) in some files, whatever stands in the padding; 0 at least.

    Raises:
        DataError: an array holds no integers, or is damaged, or lengths are out of range.
    """
    largest = 0
    for contents in files:
        stored = contents[modality]
        _check_integers(stored)
        lengths, steps = read_lengths(contents, modality), np.arange(stored.shape[1])
        for start, piece in stored.rows():
            valid = steps < lengths[start : start + len(piece), None]
            largest = max(largest, int(piece.max(where=valid, initial=0)))
    return largest


def write_tokens(
    part: SplitWriter,
    contents: Contents,
    modality: str,
    rows: Indices,
    present: NDArray[np.bool_] | None,
    ids: tuple[int, int],
) -> Iterator[int]:
    """Copy the token ids of some rows to a split, padding set to the padding's id; yields the number of rows done.

    Args:
        part: the split, of len(rows) rows.
        contents: the file's arrays.
        modality: which of them.
        rows: ascending row numbers in the file.
        present: which rows of the file have the modality (N,); None: all. The others get no valid token.
        ids: number of token ids, and the one that fills the padding.

    Raises:
        DataError: the array is damaged, holds other numbers than ids of the vocabulary, or lengths are out of range.
    """
    stored, (vocabulary, pad) = contents[modality], ids
    _check_integers(stored)
    target = part.tokens(modality, stored.shape[1], vocabulary=vocabulary, pad=pad)
    lengths = read_lengths(contents, modality)[rows]
    if present is not None:
        part.present(modality, present[rows])
        lengths = lengths * present[rows]
    part.lengths(modality, lengths.tolist())
    for start, piece in stored.rows():
        first, last = np.searchsorted(rows, [start, start + len(piece)]).tolist()
        values = piece[rows[first:last] - start]
        valid = np.arange(values.shape[1]) < lengths[first:last, None]
        _check_range(stored, values, valid, rows[first:last], vocabulary)
        target[first:last] = np.where(valid, values, pad)
        yield last


def _check_integers(stored: Stored) -> None:
    if stored.dtype.kind not in "iu":
        raise stored.refused(f"has the type {stored.dtype}; token ids are integers: convert it")


def _check_range(stored: Stored, values: Array, valid: NDArray[np.bool_], rows: Indices, vocabulary: int) -> None:
    is_bad = (((values < 0) | (values >= vocabulary)) & valid).any(axis=1)
    if is_bad.any():
        place = is_bad.argmax()
        row = values[place][valid[place]]
        raise stored.refused(
            f"has token ids from {row.min()} to {row.max()} in row {rows[place]}, allowed are 0 to {vocabulary - 1}; "
            f"correct them, or set dataset.prepare.vocabularies.{stored.name}"
        )
