"""Reads .npz files of limited size, without unpickling anything.

What an archive unpacks to is known from its directory and from the headers of its arrays: both are checked before
memory is taken.
"""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drcli.reading import NPZ_DAMAGE, ContentsError, is_printable, one_line, open_regular, shown

Array = NDArray[Any]

SMALL = 256 * 2**20
"""Bytes that every archive may unpack to."""

RATIO = 16
"""How many times its own size a larger archive may unpack to."""

MAX_ARRAYS = 1000
"""Arrays of an archive."""

_SAVE = "save the file again with numpy.savez"


class NoArchiveError(ContentsError):
    """The file is not an .npz file at all."""


def read_npz(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Array]:
    """Return arrays of an .npz file by name, in the file's order.

    Args:
        path: the file.
        wanted: which arrays are read, by name; the headers of the others are checked all the same.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
        ContentsError: it is not an .npz file, is damaged, unpacks to too much, or a member is not an array of
            numbers or text; says what to do.
    """
    with open_regular(path) as stream:
        size = path.stat().st_size
        with _opened(stream) as archive:
            members = _members(archive, size)
            return {name: _read(archive, name, member) for name, member in members.items() if wanted(name)}


def _opened(stream: IO[bytes]) -> zipfile.ZipFile:
    if stream.read(6) == b"\x93NUMPY":
        raise NoArchiveError("holds a single array; save several with numpy.savez")
    try:
        return zipfile.ZipFile(stream)
    except NPZ_DAMAGE as error:
        raise NoArchiveError(f"is not a .npz file ({one_line(error)}); save one with numpy.savez") from error


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by the name of their array, all headers checked."""
    found: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > MAX_ARRAYS:
        raise ContentsError(f"holds {len(infos)} arrays; more than {MAX_ARRAYS} are refused")
    _check_unpacked(sum(info.file_size for info in infos), size)
    for info in infos:
        name = info.filename.removesuffix(".npy")
        if name == info.filename or not is_printable(name):
            raise ContentsError(f"{shown(name)} is not an array; save the file with numpy.savez")
        if name in found:
            raise ContentsError(f"array {shown(name)} is in the file twice; {_SAVE}")
        _check_header(archive, name, info)
        found[name] = info
    return found


def _check_unpacked(unpacked: int, size: int) -> None:
    if unpacked > max(SMALL, RATIO * size):
        raise ContentsError(
            f"{size / 1e6:.1f} MB unpack to {unpacked / 1e6:,.0f} MB; more than {SMALL / 2**20:g} MiB and {RATIO} "
            "times the file are refused: save it without compression, with numpy.savez"
        )


def _check_header(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> None:
    """Check that an array's header agrees with what the archive's directory says it unpacks to."""
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise ContentsError(f"array {shown(name)} is compressed in a way that numpy does not write; {_SAVE}")
    with _damage(f"array {shown(name)} is damaged"), archive.open(info) as stream:
        shape, dtype = _header(stream)
        if dtype.hasobject:
            raise ContentsError(
                f"array {shown(name)} holds Python objects, which are not loaded because they can carry code; "
                "save it with a numeric dtype (labels may also be strings)"
            )
        size = stream.tell() + math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or dtype.itemsize == 0 or size != info.file_size:
            raise ContentsError(
                f"array {shown(name)} is damaged ({info.file_size} bytes, its header says {size}); {_SAVE}"
            )


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    parse = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = parse(stream)
    return shape, dtype


def _read(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo) -> Array:
    with _damage(f"array {shown(name)} is damaged"), archive.open(info) as stream:
        array: Array = np.lib.format.read_array(stream, allow_pickle=False)
        while stream.read(2**20):  # to the end, where zipfile compares the checksum
            pass
    return array


@contextmanager
def _damage(subject: str) -> Iterator[None]:
    """Turn what numpy and zipfile raise into one line; their warnings about old headers are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ContentsError:
        raise
    except NPZ_DAMAGE as error:
        raise ContentsError(f"{subject} ({one_line(error)}); {_SAVE}") from error
