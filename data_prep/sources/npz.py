"""Reads the arrays of .npz files, a piece at a time, without unpickling anything."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from data_prep.files.opening import MB, open_file
from drcli.errors import DataError
from drcli.reading import NPZ_DAMAGE, one_line

Array = NDArray[Any]
Header = tuple[tuple[int, ...], bool, np.dtype[Any]]

CHUNK_BYTES = 64 * 2**20
_LONGEST_HEADER = 10_000  # bytes; numpy reads no longer ones
_FIRST_BYTES = b"PK\x03\x04"
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})  # what numpy writes

LARGEST_WHOLE = 512 * MB
"""Bytes of an array that is read whole: labels and lengths, of which 60 million rows fit."""
LARGEST_ROW = 1000 * MB
"""Bytes of one sample."""
LARGEST_FORTRAN = 8000 * MB
"""Bytes of an array in Fortran order, of which no row can be read for itself."""
MOST_PACKED = 200
"""How many times the size of a file its arrays may have together, if that is more than `LARGEST_FORTRAN`."""


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

    @property
    def size(self) -> int:
        """Bytes of its values."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def where(self) -> str:
        """Name of what the array is in, for messages."""
        return self.path.name

    def refused(self, what: str) -> DataError:
        """The error that names file and array; `what` says what is wrong and what to do."""
        return DataError(f"{self.path}: array {self.name!r} {what}")

    def rows(self) -> Iterator[tuple[int, Array]]:
        """Yield (number of the first row, rows (n, ...)); see `read_rows`."""
        return read_rows(self)

    def whole(self) -> Array:
        """All of it; see `read_whole`."""
        return read_whole(self)


def read_headers(path: Path) -> dict[str, Stored]:
    """The arrays of a file by name, in its order, without their values.

    Raises:
        DataError: the file is not an .npz file or damaged, or an array holds Python objects.
    """
    with _damage(f"{path}: is not a readable .npz file"), _archive(path) as archive:
        _check_unpacked(path, archive.infolist())
        headers = [_read_header(archive, path, member) for member in archive.infolist()]
    contents = {stored.name: stored for stored in headers}
    if len(contents) < len(headers):
        raise DataError(f"{path}: holds two arrays of the same name; save the file again with numpy.savez")
    return contents


def _check_unpacked(path: Path, members: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive whose arrays are out of proportion to its size."""
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    if unpacked > LARGEST_FORTRAN and unpacked > MOST_PACKED * packed:
        raise DataError(
            f"{path}: unpacks from {packed / MB:,.1f} to {unpacked / MB:,.0f} MB, more than {MOST_PACKED} times as "
            "much; if that is right, save it with numpy.savez, which does not pack"
        )


def read_whole(stored: Stored) -> Array:
    """All of an array, of at most `LARGEST_WHOLE` bytes.

    Raises:
        DataError: the array is damaged or too large.
    """
    _check_size(stored, LARGEST_WHOLE, stored.size, "save it with a smaller type")
    return _read_whole(stored)


def _check_size(stored: Stored, limit: int, size: int, remedy: str) -> None:
    if size > limit:
        raise stored.refused(
            f"would take {size / MB:,.0f} MB of memory at a time, more than {limit / MB:,.0f} MB; {remedy}"
        )


def _read_whole(stored: Stored) -> Array:
    with _opened(stored) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def read_rows(stored: Stored) -> Iterator[tuple[int, Array]]:
    """Yield (number of the first row, rows (n, ...)) of an array (N, ...), about 64 MB at a time.

    An array in Fortran order has no rows in one piece: it is read whole.

    Raises:
        DataError: the array is damaged, or a row takes more than `LARGEST_ROW` bytes, or an array in
            Fortran order more than `LARGEST_FORTRAN`.
    """
    row = math.prod(stored.shape[1:]) * stored.dtype.itemsize
    _check_size(stored, LARGEST_ROW, row, "save smaller samples")
    step = max(1, CHUNK_BYTES // max(1, row))
    starts = range(0, stored.shape[0], step)
    if stored.is_fortran:
        _check_size(stored, LARGEST_FORTRAN, stored.size, "save numpy.ascontiguousarray of it")
        whole = _read_whole(stored)
        yield from ((start, whole[start : start + step]) for start in starts)
        return
    with _opened(stored) as stream:
        _parse_header(stream)
        for start in starts:
            shape = (min(step, stored.shape[0] - start), *stored.shape[1:])
            content = stream.read(math.prod(shape) * stored.dtype.itemsize)
            yield start, np.frombuffer(content, stored.dtype).reshape(shape)


def _read_header(archive: zipfile.ZipFile, path: Path, member: zipfile.ZipInfo) -> Stored:
    if member.compress_type not in _METHODS:
        raise DataError(f"{path}: packed by a method that numpy does not use; save the file again with numpy.savez")
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
        raise DataError(f"{path}: {name!r} is not an array; save the file with numpy.savez")
    with _damage(f"{path}: array {name!r} is damaged"), archive.open(member) as stream:
        shape, is_fortran, dtype = _parse_header(stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        if any(type(axis) is not int or axis < 0 for axis in shape):
            raise ValueError(f"shape {shape}")
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
    version = np.lib.format.read_magic(io.BytesIO(stream.read(np.lib.format.MAGIC_LEN)))
    is_old = version == (1, 0)
    length = stream.read(2 if is_old else 4)
    if int.from_bytes(length, "little") > _LONGEST_HEADER:  # numpy would read all of it
        raise ValueError(f"header of {int.from_bytes(length, 'little'):,} bytes")
    parse = np.lib.format.read_array_header_1_0 if is_old else np.lib.format.read_array_header_2_0
    header: Header = parse(io.BytesIO(length + stream.read(int.from_bytes(length, "little"))))
    return header


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with open_file(path) as stream:
        if stream.read(4) != _FIRST_BYTES:  # zipfile would look for an archive anywhere in the file
            raise zipfile.BadZipFile("File is not a zip file")
        with zipfile.ZipFile(stream) as archive:
            yield archive


@contextmanager
def _opened(stored: Stored) -> Iterator[IO[bytes]]:
    with (
        _damage(f"{stored.path}: array {stored.name!r} is damaged"),
        _archive(stored.path) as archive,
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
