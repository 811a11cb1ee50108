"""Archives of arrays, packed and not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.sources.npz import read_headers, read_rows, read_whole
from drcli.errors import DataError

ARRAYS = {
    "labels": np.array(["cat", "dog", "dog"]),
    "audio": np.arange(3 * 2 * 2, dtype=np.float32).reshape(3, 2, 2),
    "text": np.asfortranarray(np.arange(3 * 4, dtype=np.int64).reshape(3, 4)),
}


def saved(save: object) -> bytes:
    stream = io.BytesIO()
    save(stream, **ARRAYS)  # type: ignore[operator]
    return stream.getvalue()


def inputs() -> st.SearchStrategy[bytes]:
    """A damaged archive."""
    return mutated([saved(np.savez), saved(np.savez_compressed)])


def check(data: bytes, folder: Path) -> str:
    """Read all arrays, whole and in pieces; what is accepted must be what numpy reads."""
    path = folder / "train.npz"
    path.write_bytes(data)
    try:
        headers = read_headers(path)
        whole = {name: read_whole(stored) for name, stored in headers.items()}
        pieces = {
            name: np.concatenate([rows for _, rows in read_rows(stored)])
            for name, stored in headers.items()
            if stored.shape and stored.shape[0]
        }
    except DataError as error:
        return refused(error)
    with np.load(io.BytesIO(data), allow_pickle=False) as expected:
        assert list(expected) == list(whole)
        for name, array in whole.items():
            np.testing.assert_array_equal(array, expected[name])
    for name, array in pieces.items():
        np.testing.assert_array_equal(array, whole[name])
    return "accepted"
