"""Mean and standard deviation of an array, and the pieces in which it is read: an array may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.data.format import Statistics
from drcli.data.parts import Stored

ROUNDING = 1e-12
"""Of float64 sums over many values: a smaller standard deviation, relative to the mean, is none."""

_CHUNK_BYTES = 64 * 2**20  # of float64; the sums over everything depend on it in their last bits
_SMALL_CHUNK = 4 * 2**20  # likewise, where nothing depends on it

Floats = NDArray[np.float64]


def pieces_of(
    array: Stored, mask: NDArray[np.bool_] | None = None, *, most: int = 0
) -> Iterator[tuple[int, NDArray[Any]]]:
    """(number of the first row, rows), of at most `most` bytes as float64, 0: `_CHUNK_BYTES`; those of a mask."""
    step = max(1, (most or _CHUNK_BYTES) // (8 * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        rows = slice(start, start + step)
        yield start, array[rows] if mask is None else array[rows][mask[rows]]


def is_constant(array: Stored, kind: str, lengths: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None) -> bool:
    """Whether all values are equal; of a sequence, all valid steps, of a vector, all rows that are there.

    Small values are values like others.
    """
    if lengths is None:
        row = array[int(0 if mask is None else mask.argmax())]
        first_value = row if kind == "vector" else row.flat[0]
        return all(bool((piece == first_value).all()) for _, piece in pieces_of(array, mask))
    first = array[int(lengths.argmax()), 0]
    return all(bool((piece == first)[valid].all()) for piece, valid in _with_steps(array, lengths))


def statistics(
    array: Stored, kind: str, lengths: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None
) -> Statistics:
    """Mean and standard deviation in float64: of each dimension of sequences and vectors, else over everything.

    Args:
        array: (N, ...).
        kind: what its axes are.
        lengths: (N,) valid steps of a sequence or of tokens.
        mask: (N,) which rows are there; None: all.
    """
    if kind == "sequence":
        assert lengths is not None
        return _by_dimension(lambda: (piece[valid] for piece, valid in _with_steps(array, lengths)))
    if kind == "vector":
        return _by_dimension(lambda: (piece for _, piece in pieces_of(array, mask, most=_SMALL_CHUNK)))
    return _over_everything(array, mask)


def _with_steps(array: Stored, lengths: NDArray[np.int64]) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Pieces (n, L, D), and which of their steps are valid, (n, L)."""
    for start, piece in pieces_of(array, most=_SMALL_CHUNK):
        yield piece, np.arange(array.shape[1]) < lengths[start : start + len(piece), None]


def _over_everything(array: Stored, mask: NDArray[np.bool_] | None) -> Statistics:
    """Mean and standard deviation over all values that are there; two passes."""
    size = array.size if mask is None else array[0].size * int(mask.sum())
    mean = sum(float(piece.sum()) for piece in _pieces(array, mask)) / size
    variance = sum(float(np.square(piece - mean).sum()) for piece in _pieces(array, mask)) / size
    return (mean,), (float(np.sqrt(variance)),)


def _by_dimension(pieces: Callable[[], Iterator[NDArray[Any]]]) -> Statistics:
    """Mean and standard deviation of each dimension of (n, D); a constant one is left unscaled. Two passes."""
    sums, count = _sums(piece.astype(np.float64) for piece in pieces())
    mean = sums / count
    squares, _ = _sums(np.square(piece.astype(np.float64) - mean) for piece in pieces())
    std = np.sqrt(squares / count)
    return tuple(mean.tolist()), tuple(np.where(std > ROUNDING * np.abs(mean), std, 1.0).tolist())


def _sums(pieces: Iterator[Floats]) -> tuple[Floats, int]:
    """(D,) sums and number of the rows, bit for bit as numpy sums all of them.

    That is one row after another, except of a single dimension, of which numpy sums halves: it is read whole.
    """
    first = next(pieces)
    pieces = chain([first], pieces)
    if first.shape[1] == 1:
        pieces = iter([np.concatenate(list(pieces))])
    total, count = None, 0
    for piece in pieces:
        rows = piece if total is None else np.concatenate([total[None], piece])
        total, count = np.add.reduce(rows, axis=0), count + len(piece)
    assert total is not None
    return total, count


def _pieces(array: Stored, mask: NDArray[np.bool_] | None) -> Iterator[Floats]:
    return (piece.astype(np.float64) for _, piece in pieces_of(array, mask))
