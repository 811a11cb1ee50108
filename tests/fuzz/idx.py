"""MNIST's IDX files, gzipped or not; the first byte says whether images or labels are expected."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.sources.mnist_idx import read_idx
from drcli.errors import DataError


def idx(array: np.ndarray) -> bytes:
    return np.array([0x0800 + array.ndim, *array.shape], dtype=">u4").tobytes() + array.tobytes()


IMAGES = idx(np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4))
LABELS = idx(np.arange(8, dtype=np.uint8))


def inputs() -> st.SearchStrategy[bytes]:
    """The number of dimensions, then a damaged file."""
    contents = [IMAGES, LABELS, gzip.compress(IMAGES, mtime=0), gzip.compress(LABELS, mtime=0)]
    return st.builds(lambda axes, data: bytes([axes]) + data, st.sampled_from((1, 3)), mutated(contents))


def check(data: bytes, folder: Path) -> str:
    """Read it; what is accepted must be the header's shape and the bytes after it."""
    axes, content = (3 if data[:1] == b"\x03" else 1), data[1:]
    path = folder / "images"
    path.write_bytes(content)
    try:
        array = read_idx(path, axes)
    except DataError as error:
        return refused(error)
    plain = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    start = 4 + 4 * axes
    assert array.shape == tuple(int.from_bytes(plain[i : i + 4], "big") for i in range(4, start, 4))
    assert array.tobytes() == plain[start:]
    return "accepted"
