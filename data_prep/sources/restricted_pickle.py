"""Reads pickles of numpy arrays and plain containers, and nothing else.

A pickle is a program: unpickling it may call any function that it names. This reader looks every name up
in a table, and refuses the file at the first one that is not there. Even numpy's own functions would not
be safe: a crafted dtype makes them read and write memory that is not the array's. The table therefore has
stand-ins for them, which build an array only from a plain dtype and exactly as many bytes as it needs.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.errors import DataError

_DAMAGE = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)
"""What the unpickler raises on a file that is damaged or no pickle at all."""


class _RefusedError(Exception):
    """The pickle asks for something that is not in the table."""


def load_pickle(path: Path) -> Any:
    """The object in a pickle of Python 2 or 3 that holds numpy arrays, containers, text and numbers.

    Bytes strings of Python 2 become text, byte by byte (Latin-1). Arrays have numbers, text, bytes or
    objects as elements; those of records or dates are refused.

    Raises:
        DataError: the file cannot be read, is no pickle, is truncated, or asks for anything else;
            the message names what it asks for, and none of it is run.
    """
    try:
        with path.open("rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except _RefusedError as error:
        raise DataError(
            f"{path}: this pickle asks for {error}, which is no part of a numpy array or a plain container; "
            "such a file can run code, so it is not read. Download it again from its authors"
        ) from error
    except _DAMAGE as error:
        what = str(error) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as a pickle ({what}); it is truncated, or another kind of file under "
            "this name. Download it again"
        ) from error


class _Unpickler(pickle.Unpickler):
    """Finds only what the table holds; nothing is imported."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _TABLE[module, name]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError(f"the outside object {pid!r}")


class _Dtype:
    """A dtype while it is unpickled: its code as given, then the byte order of its state."""

    def __init__(self, code: str) -> None:
        if not re.fullmatch(r"[<>=|]?([?biufc]\d{1,2}|[SU]\d{1,6}|[?O]|O8)", code):
            raise _RefusedError(f"an array of {code!r}")
        self.numpy: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, subarray, names, fields = state[1:5]
        if subarray is not None or names is not None or fields is not None or order not in set("<>=|"):
            raise _RefusedError("an array of records")
        self.numpy = self.numpy.newbyteorder(order)


class _Array(np.ndarray[Any, Any]):
    """An array that takes no state but a plain dtype's, with as much data as its shape says."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        *_, shape, dtype, is_fortran, data = state
        kind = _plain(dtype)
        if kind.hasobject:
            if not isinstance(data, list) or len(data) != math.prod(shape):
                raise ValueError(f"array of shape {shape} without its elements")
        else:
            data = _checked(data, kind, math.prod(shape))
        checked = (1, tuple(map(int, shape)), kind, bool(is_fortran), data)
        super().__setstate__(checked)  # type: ignore[arg-type]  # the stub wants numpy's bool, numpy Python's


def _plain(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Dtype):
        raise TypeError(f"array of {type(dtype).__name__}")
    return dtype.numpy


def _checked(data: Any, dtype: np.dtype[Any], count: int) -> bytes:
    """The bytes of `count` elements, which Python 2 has as text."""
    raw = data.encode("latin1") if isinstance(data, str) else bytes(memoryview(data))
    if len(raw) != count * dtype.itemsize:
        raise ValueError(f"{len(raw)} bytes for {count} elements of {dtype}")
    if dtype.kind == "U" and np.any(np.frombuffer(raw, np.dtype("u4").newbyteorder(dtype.byteorder)) > sys.maxunicode):
        raise ValueError("text with characters that there are none of")
    return raw


def _dtype(code: Any, *_: Any) -> _Dtype:
    """Stand-in for `numpy.dtype`."""
    return _Dtype(str(code))


def _reconstruct(*_: Any) -> _Array:
    """Stand-in for `_reconstruct`: an empty array that waits for its state."""
    return _Array((0,), np.uint8)


def _scalar(dtype: Any, data: Any) -> Any:
    """Stand-in for `scalar`."""
    return _from_buffer(data, dtype, (1,), "C")[0]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Stand-in for `_frombuffer`."""
    kind = _plain(dtype)
    if kind.hasobject or order not in ("C", "F"):
        raise TypeError(f"buffer of {kind} in order {order!r}")
    return np.frombuffer(_checked(data, kind, math.prod(shape)), kind).reshape(shape, order=order)


def _encode(text: str, encoding: str) -> bytes:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes into old protocols."""
    if encoding not in {"latin1", "latin-1"}:
        raise _RefusedError(f"the codec {encoding!r}")
    return text.encode("latin1")


def _table() -> Mapping[tuple[str, str], Any]:
    """What may be called, by module and name as Python 2 and 3 and numpy 1 and 2 spell them."""
    table: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): "numpy.ndarray",  # an argument of _reconstruct, never called
        ("numpy", "dtype"): _dtype,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): OrderedDict,
        ("collections", "defaultdict"): defaultdict,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _reconstruct
        table[f"{core}.multiarray", "scalar"] = _scalar
        table[f"{core}.numeric", "_frombuffer"] = _from_buffer
    for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset):
        table["builtins", kind.__name__] = table["__builtin__", kind.__name__] = kind
    return table


_TABLE = _table()
