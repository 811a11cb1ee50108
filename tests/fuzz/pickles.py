"""Pickles of arrays and containers, of all protocols."""

from __future__ import annotations

import importlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.sources.pickle_calls import _CALLS
from data_prep.sources.restricted_pickle import load_pickle
from drcli.errors import DataError

TABLE = {
    "train": {
        "text": np.arange(12, dtype=np.float32).reshape(2, 3, 2),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "names": np.array(["a", "b\u00e9"]),
        "objects": np.array(["a", 1.5, None], dtype=object),
        "id": [b"video", "video$_$1", ("video", 1.5, 2)],
        "numbers": {1, 2, -70000, 2**40},
        "label": np.float64(0.5),
        "flags": [True, False, None, 3 + 1j],
    }
}
VALID = [pickle.dumps(TABLE, protocol=protocol) for protocol in range(6)]
EXTRA = (
    b"cos\nsystem\n(S'true'\ntR.",
    b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b".",
    b"\x80\x02Nr\xff\xff\xff\xff.",
    b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    b"\x80\x02)" + b"\x85" * 5000 + b".",
    b"c__builtin__\nbytes\n(I2147483648\ntR.",
)


class Reference(pickle._Unpickler):  # Python's own, in Python
    """Knows the same names, with the functions that they are the names of."""

    def find_class(self, module: str, name: str) -> Any:
        assert (module, name) in _CALLS, (module, name)
        place = {"__builtin__": "builtins", "numpy.core.multiarray": "numpy._core.multiarray"}.get(module, module)
        return getattr(importlib.import_module(place.replace("numpy.core", "numpy._core")), name)


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged pickle."""
    return mutated(VALID, EXTRA)


def check(data: bytes, folder: Path) -> str:
    """Read it; what is accepted must be what Python's unpickler makes of it."""
    path = folder / "mosi_data.pkl"
    path.write_bytes(data)
    try:
        found = load_pickle(path)
    except DataError as error:
        return refused(error)
    expected = Reference(io.BytesIO(data), encoding="latin1").load()
    assert alike(found, expected), (found, expected)
    return "accepted"


def alike(found: Any, expected: Any) -> bool:
    """Whether two values are the same, numbers bit for bit."""
    if isinstance(found, np.ndarray) and found.dtype.kind == "O":
        return isinstance(expected, np.ndarray) and alike(found.tolist(), expected.tolist())
    if isinstance(found, np.ndarray | np.generic):
        same = (found.dtype, found.shape, found.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())
        return bool(same)
    if isinstance(found, dict) and isinstance(expected, dict):
        pairs = zip(found.items(), expected.items(), strict=True)
        return len(found) == len(expected) and all(alike(a, b) for a, b in pairs)
    if isinstance(found, list | tuple) and type(found) is type(expected):
        return len(found) == len(expected) and all(alike(a, b) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, bytearray | type):
        return isinstance(found, bytes) or not isinstance(expected, bytearray)
    return repr(found) == repr(expected)
