"""What a pickle may ask for: arrays, built from a plain dtype and exactly as many bytes as they need.

numpy's own functions would not be safe: a crafted dtype or shape makes them read and write memory that is
not the array's.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MOST_AXES = 32
MOST_ELEMENTS = 2**40  # of an array, were none of its axes empty

SCALARS: frozenset[type] = frozenset({str, bytes, int, float, complex, bool, type(None)})
"""Types of values that hold no others."""

_CODE = re.compile(r"[<>=|]?([?biufc]\d{1,2}|[SU]\d{1,6}|[?O]|O8)", re.ASCII)

_ENCODINGS: Mapping[str, str] = {
    **dict.fromkeys(("latin1", "latin-1"), "latin1"),
    "ascii": "ascii",
    **dict.fromkeys(("utf8", "utf-8"), "utf-8"),
}


class RefusedError(Exception):
    """The pickle asks for something that no array and no plain container needs; says what."""


class PlainDtype:
    """A dtype while it is read: its code as given, then the byte order of its state."""

    __slots__ = ("numpy",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not _CODE.fullmatch(code):
            raise RefusedError(f"an array of {str(code)[:50]!r}")
        self.numpy: np.dtype[Any] = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Take the byte order of a dtype's state; flags and sizes are numpy's business and have no effect."""
        if type(state) is not tuple or len(state) not in {8, 9} or state[0] not in {3, 4}:
            raise ValueError("dtype with no state of a dtype")
        order, subarray, names, fields, size = state[1:6]
        if subarray is not None or names is not None or fields is not None or order not in set("<>=|"):
            raise RefusedError("an array of records")
        if self.numpy.kind in "SU" and size != self.numpy.itemsize:
            raise ValueError(f"text of {self.numpy} with {plain_text(str(size))} bytes per element")
        self.numpy = self.numpy.newbyteorder(order)


class Payload:
    """Bytes of the file that are not copied until somebody needs them for something else than an array.

    Args:
        view: where they are.
        is_text: whether they are text, byte by byte (Latin-1).
    """

    __slots__ = ("is_text", "view")

    def __init__(self, view: memoryview, is_text: bool) -> None:
        self.view, self.is_text = view, is_text

    def copy(self) -> bytes | str:
        """The bytes, or the text."""
        return str(self.view, "latin1") if self.is_text else bytes(self.view)


def copied(value: Any) -> Any:
    """A value, without parts of the file."""
    return value.copy() if type(value) is Payload else value


class Unset:
    """An array that waits for its state."""

    __slots__ = ()

    def filled(self, state: Any) -> NDArray[Any]:
        """The array of a shape, a plain dtype and as much data as they need.

        Long data is not copied: the array lies in the file, wherever it begins there (it may be unaligned), and what is
        written to it stays in memory.

        Raises:
            TypeError, ValueError: they do not fit together.
        """
        if type(state) is not tuple or len(state) != 5 or state[0] != 1:
            raise ValueError("array that is set to no state of an array")
        _, shape, dtype, is_fortran, data = state
        kind, count = plain(dtype), checked_count(shape)
        order: Literal["C", "F"] = "F" if is_fortran else "C"
        if not kind.hasobject:
            return from_bytes(data, kind, count).reshape(shape, order=order)
        if type(data) is not list or len(data) != count:
            raise ValueError(f"array of shape {shape} without its elements")
        if not all(type(value) in SCALARS or isinstance(value, np.generic) for value in data):
            raise RefusedError("an array of arrays or containers")
        objects = np.empty(count, object)
        objects[:] = data
        shaped: NDArray[Any] = objects.reshape(shape, order=order)
        return shaped


def plain(dtype: Any) -> np.dtype[Any]:
    """The dtype of numpy that a pickle built."""
    if not isinstance(dtype, PlainDtype):
        raise TypeError(f"array of {type(dtype).__name__}")
    return dtype.numpy


def checked_count(shape: Any) -> int:
    """Elements of an array of that shape.

    Raises:
        ValueError: it is not a shape, or one that no file can fill.
    """
    if type(shape) is not tuple or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"array of shape {str(shape)[:50]}")
    if len(shape) > MOST_AXES or math.prod(max(1, size) for size in shape) > MOST_ELEMENTS:
        raise ValueError(f"array of {len(shape)} axes and {math.prod(shape)} elements")
    return math.prod(shape)


def from_bytes(data: Any, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """`count` elements (count,) from their bytes, which Python 2 has as text; those of a `Payload` stay where they are.

    Swapped bytes are put in this machine's order, which takes a copy.

    Raises:
        ValueError: there are more or fewer, or they are not text where they must be.
    """
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes | bytearray | Payload):
        raise TypeError(f"array from a {type(data).__name__}")
    raw = data.view if isinstance(data, Payload) else bytearray(data)  # either may be written to
    if len(raw) != count * dtype.itemsize or (dtype.itemsize == 0 and count):
        raise ValueError(f"{len(raw)} bytes for {count} elements of {dtype}")
    if count == 0:
        return np.empty(0, dtype)
    if dtype.kind == "U" and np.any(np.frombuffer(raw, np.dtype("u4").newbyteorder(dtype.byteorder)) > sys.maxunicode):
        raise ValueError("text with characters that Unicode does not have")
    found: NDArray[Any] = np.frombuffer(raw, dtype)
    return found if dtype.isnative else found.astype(dtype.newbyteorder("="))


def make_dtype(code: Any = None, *_: Any) -> PlainDtype:
    """Stand-in for `numpy.dtype`."""
    return PlainDtype(code)


def make_empty(_: Any, shape: Any, code: Any) -> Unset:
    """Stand-in for `_reconstruct`: an array that waits for its state; numpy always gives it the same shape."""
    if shape != (0,) or code not in (b"b", "b"):
        raise ValueError("array that does not begin empty")
    return Unset()


def make_scalar(dtype: Any, data: Any) -> Any:
    """Stand-in for `scalar`."""
    return from_buffer(data, dtype, (1,), "C")[0]


def from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Stand-in for `_frombuffer`."""
    kind = plain(dtype)
    if kind.hasobject or order not in ("C", "F"):
        raise TypeError(f"buffer of {kind} in another order")
    return from_bytes(data, kind, checked_count(shape)).reshape(shape, order=order)


def encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes into old protocols."""
    if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in _ENCODINGS:
        raise RefusedError(f"the codec {plain_text(str(encoding))!r}")
    return text.encode(_ENCODINGS[encoding])


def plain_text(text: str) -> str:
    """Text of a pickle, for a message: short, and without characters that a terminal cannot show."""
    cut = text[:100]
    return cut if cut.isprintable() else ascii(cut)[1:-1]
