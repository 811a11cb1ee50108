"""Arrays that were staged: files of values without a header, read a piece at a time; see `sources.staging`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.npz import CHUNK_BYTES, Array, Stored
from drcli.errors import DataError


@dataclass(frozen=True)
class Staged(Stored):
    """An array in a file without a header.

    Attributes:
        file: the values, in C order.
        origin: what messages begin with.
    """

    file: Path = Path()
    origin: str = ""

    @property
    def where(self) -> str:
        """The split."""
        return self.path.name

    def refused(self, what: str) -> DataError:
        """The error that names what the samples come from; `what` says what is wrong and what to do."""
        return DataError(f"{self.origin}, split {self.where}: {self.name!r} {what}")

    def rows(self) -> Iterator[tuple[int, Array]]:
        """Yield (number of the first row, rows (n, ...)), about 64 MB at a time."""
        size = math.prod(self.shape[1:])
        step = max(1, CHUNK_BYTES // max(1, size * self.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            count = min(step, self.shape[0] - start)
            yield start, self._read(start * size, count * size).reshape(count, *self.shape[1:])

    def whole(self) -> Array:
        """All of it."""
        return self._read(0, math.prod(self.shape)).reshape(self.shape)

    def _read(self, first: int, count: int) -> Array:
        return np.fromfile(self.file, self.dtype, count, offset=first * self.dtype.itemsize)


@dataclass(frozen=True)
class Steps(Staged):
    """Sequences (N, L, ...) of which the file holds the valid steps alone, one sequence after another.

    Attributes:
        lengths: valid steps (N,), L at most.
    """

    lengths: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def rows(self) -> Iterator[tuple[int, Array]]:
        """Yield (number of the first row, rows (n, L, ...)), about 64 MB at a time; the padding is zeros."""
        inner = math.prod(self.shape[2:])
        ends = np.concatenate([[0], np.cumsum(self.lengths)])
        step = max(1, CHUNK_BYTES // max(1, math.prod(self.shape[1:]) * self.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            last = min(start + step, self.shape[0])
            found = np.zeros((last - start, *self.shape[1:]), self.dtype)
            steps = self._read(int(ends[start]) * inner, int(ends[last] - ends[start]) * inner)
            valid = np.arange(self.shape[1]) < self.lengths[start:last, None]
            found[valid] = steps.reshape(-1, *self.shape[2:])
            yield start, found

    def whole(self) -> Array:
        """All of it."""
        return np.concatenate([rows for _, rows in self.rows()])
