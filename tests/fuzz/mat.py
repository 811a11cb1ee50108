"""MATLAB's files of version 5: as it compresses them, as it does not, and of a big-endian machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st
from support.wikipedia_tree import big_endian, mat_bytes

from data_prep.sources.mat import read_matrices
from drcli.errors import DataError

NAMES = ("ab", "cd")


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged file."""
    variables = {"ab": np.linspace(0, 1, 12).reshape(3, 4), "cd": np.arange(6.0).reshape(2, 3), "ef": "text"}
    whole = [mat_bytes(variables, compressed=compressed) for compressed in (True, False)]
    return mutated([*whole, big_endian("ab", np.arange(6, dtype=np.uint8).reshape(2, 3))])


def check(data: bytes, folder: Path) -> str:
    """Read it; what is accepted must be matrices of the wanted names, not larger than the file could hold."""
    path = folder / "a.mat"
    path.write_bytes(data)
    try:
        found = read_matrices(path, NAMES)
    except DataError as error:
        return refused(error)
    assert found.keys() <= set(NAMES)
    for matrix in found.values():
        assert matrix.ndim == 2
        assert matrix.dtype == np.float64
        assert matrix.size <= 1000 * len(data)
    return "accepted"
