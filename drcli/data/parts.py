"""An array of rows that lies in several files: read and written as if it were one.

Each file holds whole rows, all of them equally many but the last, which may have fewer. Where a modality of a split
fits into one file, that is `visual.npy`; else the files are `visual.000.npy`, `visual.001.npy` and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

MOST_FILES = 10_000
"""Of one array: 40 TB where a file has 4 GB."""

Places: TypeAlias = "range | NDArray[np.int64]"
_Span: TypeAlias = "slice | NDArray[np.int64]"


def array_files(name: str, rows: int, file_rows: int) -> list[str]:
    """Names of the files of an array, in the order of its rows.

    Args:
        name: of the array, without the ending.
        rows: that it has.
        file_rows: that a file has at most; 0: all of them.
    """
    if not 0 < file_rows < rows:
        return [f"{name}.npy"]
    return [part_file(name, number) for number in range(-(-rows // file_rows))]


def part_file(name: str, number: int) -> str:
    """Name of the file of a number, from 0, of an array that has several."""
    return f"{name}.{number:03d}.npy"


def rows_of_files(rows: int, file_rows: int) -> list[int]:
    """How many rows each of the files of `array_files` has."""
    if not 0 < file_rows < rows:
        return [rows]
    return [min(file_rows, rows - start) for start in range(0, rows, file_rows)]


class PartedArray:
    """The arrays of several files as one, (N, ...).

    The first index is a row number, a slice, or row numbers or a mask (N,); the others are numbers and slices. What
    lies in one file is a view of it, all else a copy.

    Args:
        parts: of the files in order; each has as many rows as the first, the last one perhaps fewer.
    """

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        self.file_rows = len(parts[0])
        assert {len(part) for part in parts[:-1]} == {self.file_rows}
        assert 0 < len(parts[-1]) <= self.file_rows
        self._maps = list(parts)
        self.parts: list[NDArray[Any]] = [part.view(np.ndarray) for part in parts]  # a memmap's own indexing is slow
        self.shape: tuple[int, ...] = (sum(map(len, parts)), *parts[0].shape[1:])
        self.dtype: np.dtype[Any] = parts[0].dtype

    def __len__(self) -> int:
        """Number of rows N."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(part.size for part in self.parts)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(part.nbytes for part in self.parts)

    def take(self, rows: NDArray[np.int64], columns: NDArray[np.int64] | None = None) -> NDArray[Any]:
        """Return rows, copied: `self[rows]`, or of a whole array x `x[rows[:, None], columns]`.

        Args:
            rows: (B,) row numbers.
            columns: (B, T) numbers along the second axis; None takes all of it.

        Raises:
            IndexError: there is no such row.
        """
        shape = (len(rows), *self.shape[1:]) if columns is None else (*columns.shape, *self.shape[2:])
        out = np.empty(shape, self.dtype)
        for place, (part, row) in enumerate(map(self._row, rows.tolist())):  # each is copied once, into its place
            out[place] = part[row] if columns is None else part[row, columns[place]]
        return out

    def flush(self) -> None:
        """Force what was written to the disk, where these are memory maps."""
        for part in self._maps:
            if isinstance(part, np.memmap):
                part.flush()

    def __getitem__(self, key: Any) -> Any:
        """Return values; see the class."""
        first, rest = _split(key)
        if isinstance(first, int | np.integer):
            part, row = self._row(int(first))
            return part[(row, *rest)]
        rows = self._rows(first)
        pieces = list(self._by_part(rows))
        if isinstance(rows, range) and len(pieces) == 1:
            part, _, local = pieces[0]
            return part[(local, *rest)]
        out = np.empty((len(rows), *self._rest(rest)), self.dtype)
        for part, places, local in pieces:
            out[places] = part[(local, *rest)]
        return out

    def __setitem__(self, key: Any, value: Any) -> None:
        """Write values, which are broadcast as numpy does; see the class."""
        first, rest = _split(key)
        if isinstance(first, int | np.integer):
            part, row = self._row(int(first))
            part[(row, *rest)] = value
            return
        rows = self._rows(first)
        values = np.broadcast_to(value, (len(rows), *self._rest(rest)))
        for part, places, local in self._by_part(rows):
            part[(local, *rest)] = values[places]

    def _rest(self, rest: tuple[Any, ...]) -> tuple[int, ...]:
        """The axes after the first of what an index takes."""
        shape: tuple[int, ...] = self.parts[0][(slice(0, 0), *rest)].shape
        return shape[1:]

    def _row(self, row: int) -> tuple[NDArray[Any], int]:
        """The part that has a row, and the row's number there."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number, local = divmod(row % len(self), self.file_rows)
        return self.parts[number], local

    def _rows(self, index: Any) -> Places:
        """The row numbers that an index means, from 0."""
        if isinstance(index, slice):
            found = range(len(self))[index]
            return found if found.step > 0 else np.array(found, np.int64)
        numbers = np.asarray(index)
        if numbers.dtype == bool and numbers.shape == (len(self),):
            return np.flatnonzero(numbers)
        if numbers.ndim != 1 or (numbers.dtype.kind not in "iu" and len(numbers)):
            raise IndexError(f"an index of the shape {numbers.shape} and the type {numbers.dtype}")
        if len(numbers) and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self)}")
        return numbers.astype(np.int64) % len(self)

    def _by_part(self, rows: Places) -> Iterator[tuple[NDArray[Any], _Span, _Span]]:
        """(part, places among the rows, row numbers in the part), for each part that has some of the rows."""
        if isinstance(rows, range):
            yield from self._of_range(rows)
            return
        numbers, local = np.divmod(rows, self.file_rows)
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            yield self.parts[number], places, local[places]

    def _of_range(self, rows: range) -> Iterator[tuple[NDArray[Any], slice, slice]]:
        done = 0
        while done < len(rows):
            number, local = divmod(rows[done], self.file_rows)
            count = min(len(rows) - done, -(-(self.file_rows - local) // rows.step))
            end = local + (count - 1) * rows.step + 1
            yield self.parts[number], slice(done, done + count), slice(local, end, rows.step)
            done += count


Stored: TypeAlias = "NDArray[Any] | PartedArray"
"""An array in one file or in several."""


def joined(parts: Sequence[NDArray[Any]]) -> Stored:
    """Return the arrays of all files as one; that of one file as it is."""
    return parts[0] if len(parts) == 1 else PartedArray(parts)


def _split(key: Any) -> tuple[Any, tuple[Any, ...]]:
    """The index of rows, and those of the other axes."""
    first, *rest = key if isinstance(key, tuple) else (key,)
    if not all(isinstance(index, int | np.integer | slice) for index in rest):
        raise IndexError("after the rows, an array of several files takes numbers and slices alone")
    return first, tuple(rest)
