"""Arrays on disk as memory maps: checked before memory is taken, and watched while they are read.

A memory map of a file that is cut short has pages without content, and the system ends a process that reads
one (SIGBUS); no handler in Python can prevent that. `MappedFile.check`, called before rows are read, turns
all but a cut within those microseconds into an error.
"""

from __future__ import annotations

import math
import os
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from drcli.data.format import INFO_FILE
from drcli.errors import DataError

_HEADER_ERRORS = (ValueError, TypeError, LookupError, EOFError, SyntaxError, OverflowError, RecursionError, MemoryError)
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class MappedFile:
    """A file that a memory map reads from.

    Attributes:
        path: the file.
        nbytes: what it had when it was mapped.
    """

    path: Path
    nbytes: int

    def check(self) -> None:
        """Check that the file has not become shorter; one that was deleted stays readable through its map.

        Raises:
            DataError: it has.
        """
        try:
            nbytes = os.stat(self.path).st_size  # noqa: PTH116 - called for every batch
        except OSError:
            return
        if nbytes < self.nbytes:
            raise DataError(
                f"{self.path}: was cut from {self.nbytes} to {nbytes} bytes while it was in use; prepare the dataset "
                "again with --fresh, then repeat the command"
            )


def open_array(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Map an array copy-on-write: torch wants writable memory, the file stays as it is.

    Args:
        path: the .npy file.
        shape: that dataset.json says.
        dtype: numpy name of the type that dataset.json says.

    Raises:
        DataError: it is no such file, is of another shape or type, or is not as long as its header says.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")
        with path.open("rb") as stream:
            found, is_fortran, stored = _read_header(stream)
            offset = stream.tell()
        size = path.stat().st_size
    except (OSError, *_HEADER_ERRORS, tokenize.TokenError) as error:
        raise DataError(f"{path}: not a readable array ({error}); prepare again with --fresh") from error
    if found != shape or stored.name != dtype or is_fortran or not stored.isnative:
        raise DataError(
            f"{path}: holds {stored.name} {found}, {INFO_FILE} says {dtype} {shape}; "
            "prepare the dataset again with --fresh"
        )
    expected = offset + math.prod(shape) * stored.itemsize
    if size != expected:
        raise DataError(f"{path}: has {size} bytes, its header says {expected}; prepare the dataset again with --fresh")
    return np.memmap(path, dtype=stored, mode="c", offset=offset, shape=shape)


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran order, and type of an array; the stream is left where its values begin."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"version {version} of the format")
    shape, is_fortran, dtype = _READERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, is_fortran and len(shape) > 1, dtype
