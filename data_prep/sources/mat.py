"""MATLAB's files of version 5: matrices of real numbers, from whatever the file holds besides.

A file is a header of 128 bytes and elements: a type, a number of bytes, and these. A compressed element holds
another one. A matrix holds elements again: flags, dimensions, name and values, by columns, in the smallest type
that loses nothing. SciPy's reader is not used: a damaged file can end the process (a segmentation fault).
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.files.opening import read_file
from drcli.errors import DataError

LONGEST_FILE = 100 * 10**6  # bytes
LARGEST = 256 * 10**6  # bytes of all variables of a file, decompressed

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_REAL = (6, 7)  # classes double and single
_COMPLEX = 0x0800  # among the flags

Matrix = NDArray[np.float64]


def read_matrices(path: Path, names: Collection[str]) -> dict[str, Matrix]:
    """The matrices of some names that a file holds, (rows, columns); others are passed over.

    Args:
        path: the file.
        names: of the variables that are wanted; one that the file lacks is left out.

    Raises:
        DataError: it cannot be read, is larger than `LONGEST_FILE`, is not of version 5 or is damaged, holds more
            than `LARGEST`, or a variable that is wanted is not a matrix of real numbers.
    """
    content = read_file(path, limit=LONGEST_FILE)
    try:
        order = _byte_order(content)
        found: dict[str, Matrix] = {}
        for body in _variables(memoryview(content)[_HEADER:], order):
            name, matrix = _matrix(body, order, names)
            if name in found:
                raise ValueError(f"it holds {name} twice")
            if matrix is not None:
                found[name] = matrix
    except (ValueError, zlib.error) as error:
        raise DataError(f"{path}: not a readable MAT-file of version 5 ({error}); download it again") from error
    return found


def _byte_order(content: bytes) -> str:
    """The sign of the byte order, in numpy, that the header states.

    Raises:
        ValueError: it is not that of version 5.
    """
    mark = content[_HEADER - 2 : _HEADER]
    if mark not in {b"IM", b"MI"}:
        raise ValueError("its header does not end in IM or MI")
    order = "<" if mark == b"IM" else ">"
    version = int(np.frombuffer(content, f"{order}u2", 1, _HEADER - 4)[0])
    if version != 0x0100:
        raise ValueError(f"its version is {version >> 8}.{version & 255}; save it in MATLAB with -v7")
    return order


def _variables(content: memoryview, order: str) -> Iterator[memoryview]:
    """What is inside each variable's element, decompressed."""
    left = LARGEST
    for kind, body in _elements(content, order):
        if kind == _COMPRESSED:
            inflated = _inflated(body, left)
            left -= len(inflated)
            kind, body = next(_elements(inflated, order))  # noqa: PLW2901
        if kind != _MATRIX:
            raise ValueError(f"it holds an element of type {kind}, which is no variable")
        yield body


def _inflated(body: memoryview, left: int) -> memoryview:
    """The element that a compressed one holds, of at most `left` bytes."""
    stream = zlib.decompressobj()
    inflated = stream.decompress(body, left) if left else b""  # 0 would mean without a limit
    if stream.unconsumed_tail or not left:
        raise ValueError(f"its variables take more than {LARGEST // 10**6} MB")
    if not stream.eof or not inflated:
        raise ValueError("a variable is cut short")
    return memoryview(inflated)


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of each element; up to 4 bytes may stand in the tag itself.

    Raises:
        ValueError: the content ends within an element.
    """
    place = 0
    while place < len(content):
        if len(content) - place < 8:
            raise ValueError("it ends within an element")
        kind, size = (int(word) for word in np.frombuffer(content, f"{order}u4", 2, place))
        start, after = place + 8, place + 8 + size
        if kind >> 16:
            kind, size, start, after = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        elif kind != _COMPRESSED:
            after += -size % 8
        if start + size > len(content) or (start == place + 4 and size > 4):
            raise ValueError("it ends within an element")
        yield kind, content[start : start + size]
        place = after


def _matrix(body: memoryview, order: str, names: Collection[str]) -> tuple[str, Matrix | None]:
    """Name of a variable, and its values if it is wanted.

    Raises:
        ValueError: they are not a matrix of real numbers, or not as many as its dimensions say.
    """
    elements = _elements(body, order)
    head = list(islice(elements, 3))
    if len(head) < 3:
        raise ValueError("a variable lacks its flags, dimensions or name")
    (_, flags), (_, dimensions), (_, text) = head
    name = bytes(text).decode("ascii")
    if name not in names:
        return name, None
    flag = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    shape = tuple(np.frombuffer(dimensions, f"{order}i4").tolist())
    kind, values = next(elements, (0, memoryview(b"")))
    if flag & 0xFF not in _REAL or flag & _COMPLEX or len(shape) != 2 or kind not in _TYPES:
        raise ValueError(f"{name} is not a matrix of real numbers")
    numbers = np.frombuffer(values, order + _TYPES[kind])
    if len(numbers) != prod(shape) or min(shape) < 1:
        raise ValueError(f"{name} has {len(numbers)} values, its dimensions say {' x '.join(map(str, shape))}")
    return name, numbers.reshape(shape, order="F").astype(np.float64)
