"""Makes the files of arrays at their full size, an array in several files where it would be too large for one."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.data.parts import Stored, array_files, joined, rows_of_files

LARGEST_FILE = 4 * 10**9
"""Bytes of values in a file of an array; a file has one row at least."""


def rows_of_a_file(shape: Sequence[int], dtype: str) -> int:
    """How many rows of a shape and type a file has at most."""
    return max(1, LARGEST_FILE // max(1, math.prod(shape) * np.dtype(dtype).itemsize))


def allocate_array(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> Stored:
    """Make the files of an array, zeros, and return the memory map of one, or those of several as one array.

    Args:
        folder: of the files.
        name: of the array, without the ending.
        shape: (N, ...) of the array.
        dtype: numpy name of its type.
    """
    file_rows = rows_of_a_file(shape[1:], dtype)
    files = zip(array_files(name, shape[0], file_rows), rows_of_files(shape[0], file_rows), strict=True)
    return joined([allocate(folder / file, (rows, *shape[1:]), dtype) for file, rows in files])


def allocate(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Make an array file of its full size, zeros, and return its memory map.

    Args:
        path: the .npy file.
        shape: of the array.
        dtype: numpy name of its type.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):  # a sparse map on a full disk would die of SIGBUS when filled
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array
