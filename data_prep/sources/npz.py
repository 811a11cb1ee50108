"""Reads the arrays of .npz files, a piece at a time, without unpickling anything."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drcli.damage import NPZ_DAMAGE, one_line
from drcli.errors import DataError

Array = NDArray[Any]
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]

_CHUNK_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Stored:
    """An array of an .npz file, as its header describes it.

    Attributes:
        path: the file.
        name: of the array in it.
        shape: of the array.
        dtype: its type; never one of Python objects.
        is_fortran: whether its first axis is the innermost.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    is_fortran: bool

    def refused(self, what: str) -> DataError:
        """The error that names file and array; `what` says what is wrong and what to do."""
        return DataError(f"{self.path}: array {self.name!r} {what}")


def read_headers(path: Path) -> dict[str, Stored]:
    """The arrays of a file by name, in its order, without their values.

    Raises:
        DataError: the file is no .npz file or damaged, or an array holds Python objects.
    """
    with _damage(f"{path}: is not a readable .npz file"), zipfile.ZipFile(path) as archive:
        headers = [_read_header(archive, path, member) for member in archive.infolist()]
    return {stored.name: stored for stored in headers}


def read_whole(stored: Stored) -> Array:
    """All of an array.

    Raises:
        DataError: the array is damaged.
    """
    with _opened(stored) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def read_rows(stored: Stored) -> Iterator[tuple[int, Array]]:
    """Yield (number of the first row, rows (n, ...)) of an array (N, ...), about 64 MB at a time.

    An array in Fortran order has no rows in one piece: it is read whole.

    Raises:
        DataError: the array is damaged.
    """
    step = max(1, _CHUNK_BYTES // (math.prod(stored.shape[1:]) * stored.dtype.itemsize))
    starts = range(0, stored.shape[0], step)
    if stored.is_fortran:
        whole = read_whole(stored)
        yield from ((start, whole[start : start + step]) for start in starts)
        return
    with _opened(stored) as stream:
        _parse_header(stream)
        for start in starts:
            shape = (min(step, stored.shape[0] - start), *stored.shape[1:])
            content = stream.read(math.prod(shape) * stored.dtype.itemsize)
            yield start, np.frombuffer(content, stored.dtype).reshape(shape)


def _read_header(archive: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo) -> Stored:
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
        raise DataError(f"{path}: {name!r} is no array; save the file with numpy.savez")
    with _damage(f"{path}: array {name!r} is damaged"), archive.open(member) as stream:
        shape, is_fortran, dtype = _parse_header(stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        if not dtype.hasobject and size != member.file_size:
            raise ValueError(f"{member.file_size} bytes, its header says {size}")
    stored = Stored(path, name, shape, dtype, is_fortran and len(shape) > 1)
    if dtype.hasobject:
        raise stored.refused(
            "holds Python objects, which are not loaded because they can carry code; save it with a numeric type "
            "(labels may also be strings)"
        )
    return stored


def _parse_header(stream: IO[bytes]) -> Header:
    """Shape, order and type of an array; the stream is left where its values begin."""
    version = np.lib.format.read_magic(stream)
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    header: Header = parse(stream)
    return header


@contextmanager
def _opened(stored: Stored) -> Iterator[IO[bytes]]:
    with (
        _damage(f"{stored.path}: array {stored.name!r} is damaged"),
        zipfile.ZipFile(stored.path) as archive,
        archive.open(f"{stored.name}.npy") as stream,
    ):
        yield stream


@contextmanager
def _damage(subject: str) -> Iterator[None]:
    """Turn what reading raises into one line."""
    try:
        yield
    except NPZ_DAMAGE as error:
        raise DataError(f"{subject} ({one_line(error)}); save the file again with numpy.savez") from error
