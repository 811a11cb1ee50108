"""Reads the tables of .csd files: HDF5 files <root>/data/<video>/{features (n, D), intervals (n, 2) in seconds}.

An HDF5 file may refer to other files (external links, external storage, virtual data sets), and may unpack
to any size. The first are refused, and so is a table of more than `MOST_VALUES` values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.files.opening import open_file
from data_prep.media.container import extra
from drcli.errors import DataError
from drcli.reading import one_line

MOST_VALUES = 2**25
"""Values of one video's table; the largest of CMU-MOSI, COVAREP, has 0.9 million for a minute."""
MOST_WORDS = 10**5
"""Words of one video; there are 500 for a minute at most."""

EPSILON = 1e-5  # seconds; a shorter overlap is rounding, as in the SDK

_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    SystemError,
    TypeError,
    ValueError,
)
"""What h5py raises on damaged files."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """One video's rows of a file: features (n, D) and intervals (n, 2) in seconds."""

    features: NDArray[Any]
    intervals: Doubles

    def take(self, rows: NDArray[Any]) -> Stream:
        """The rows that are marked (n,), or whose numbers are given."""
        return Stream(self.features[rows], self.intervals[rows])

    def overlapping(self, start: float, end: float) -> NDArray[np.bool_]:
        """Which rows lie in the interval, at least in part, (n,)."""
        inside: NDArray[np.bool_] = (
            np.minimum(self.intervals[:, 1], end) - np.maximum(self.intervals[:, 0], start) > EPSILON
        )
        return inside


class Table:
    """One open .csd file.

    Attributes:
        path: the file.
        videos: the ids of its videos, in order.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        try:
            self._data = _member(_member(file, next(iter(file))), "data")
            self.videos = sorted(self._data)
        except _RefusedError as error:
            raise DataError(f"{path}: {error}; download it again") from error
        except _DAMAGE as error:
            raise DataError(f"{path}: no <name>/data in this HDF5 file; is it a .csd of the CMU SDK?") from error

    def read(self, video: str) -> Stream:
        """The numbers of a video."""
        return self._read(video, _numbers)

    def read_words(self, video: str) -> Stream:
        """The words of a video, as bytes."""
        return self._read(video, _words)

    def _read(self, video: str, values: Any) -> Stream:
        try:
            group = _member(self._data, video)
            features, intervals = values(_member(group, "features")), _numbers(_member(group, "intervals"))
        except (*_DAMAGE, _RefusedError) as error:
            raise DataError(f"{self.path}: {video} cannot be read ({one_line(error)}); download it again") from error
        well_formed = features.ndim >= 2 and features.shape[1] > 0 and intervals.shape == (len(features), 2)
        if not well_formed or not np.isfinite(intervals).all():
            raise DataError(
                f"{self.path}: {video} has features {features.shape} and intervals {intervals.shape}, "
                "expected (n, D) and (n, 2), in seconds"
            )
        self._check_order(video, intervals)
        return Stream(features.reshape(len(features), int(np.prod(features.shape[1:]))), intervals)

    def _check_order(self, video: str, intervals: Doubles) -> None:
        """Refuse intervals that end before they begin."""
        wrong = np.flatnonzero(intervals[:, 1] < intervals[:, 0])
        if len(wrong):
            start, end = intervals[wrong[0]].tolist()
            raise DataError(
                f"{self.path}: {video} has {len(wrong)} intervals that end before they begin, the first from {start:g} "
                f"to {end:g} s; download it again"
            )


class _RefusedError(Exception):
    """The file holds what is never read."""


def _member(group: Any, name: str) -> Any:
    """A member of a group that is in the group itself, and not somewhere else."""
    h5py = extra("h5py")
    link = group.get(name, getlink=True)
    if link is None:
        raise KeyError(f"no {name}")
    if not isinstance(link, h5py.HardLink):
        raise _RefusedError(f"{name!r} is a link to elsewhere ({type(link).__name__}), which is not followed")
    return group[name]


def _numbers(dataset: Any) -> Doubles:
    _check_dataset(dataset, "biuf", MOST_VALUES)
    return np.asarray(dataset[()], dtype=np.float64)


def _words(dataset: Any) -> NDArray[Any]:
    """Text (n, 1) as bytes; strings of any length are read one by one, since each may be large."""
    _check_dataset(dataset, "SO", MOST_WORDS)
    if dataset.dtype.kind == "S":
        return np.asarray(dataset[()]).astype(object)
    if extra("h5py").check_string_dtype(dataset.dtype) is None:
        raise TypeError(f"{dataset.dtype} is not text")
    words, total = np.empty(dataset.shape, dtype=object), 0
    for index in np.ndindex(dataset.shape):
        words[index] = dataset[index]
        total += len(words[index])
        if total > MOST_VALUES:
            raise _RefusedError(f"more than {MOST_VALUES:,} bytes of words")
    return words


def _check_dataset(dataset: Any, kinds: str, most: int) -> None:
    """Refuse a data set that is large, elsewhere, or not of one of the kinds, before it is read."""
    if dataset.shape is None or dataset.dtype.kind not in kinds:
        raise TypeError(f"{dataset.dtype} of shape {dataset.shape}")
    if dataset.external or dataset.is_virtual:
        raise _RefusedError("its values are in another file, which is not opened")
    for what, shape in (("values", dataset.shape), ("values in one chunk", dataset.chunks or ())):
        if math.prod(shape) > most or math.prod(shape) * dataset.dtype.itemsize > 8 * MOST_VALUES:
            raise _RefusedError(f"{math.prod(shape):,} {what}, more than the {most:,} that are read")


@contextmanager
def opened(files: Mapping[str, Path]) -> Iterator[dict[str, Table]]:
    """The tables of some .csd files by role, closed at the end.

    Raises:
        UsageError: h5py is not installed.
        DataError: a file cannot be opened or is not a .csd.
    """
    with ExitStack() as stack:
        yield {role: Table(path, stack.enter_context(_open(path))) for role, path in files.items()}


def _open(path: Path) -> Any:
    open_file(path).close()  # no pipe, no device
    try:
        return extra("h5py").File(path, "r")
    except _DAMAGE as error:
        raise DataError(f"{path}: not a readable HDF5 file ({one_line(error)}); download it again") from error
