"""Small downloads of the Wikipedia image-text features, and MAT-files that hold what a test wants."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

SIZES = {"train": 60, "test": 20}
ENDINGS = {"train": "tr", "test": "te"}


def features() -> dict[str, NDArray[Any]]:
    """What raw_features.mat holds, with 12 words, 10 topics and 6 SIFT words."""
    generator = np.random.default_rng(0)
    widths = {"T_tfidf": 12, "T": 10, "I": 6}
    return {f"{name}_{ENDINGS[p]}": generator.random((SIZES[p], w)) for p in SIZES for name, w in widths.items()}


def listed(part: str, name: str = "text") -> list[str]:
    """Lines of a list: six documents of each category in train, two in test."""
    return [f"{name}-{part}-{row}\t{part}-picture-{row}\t{row % 10 + 1}" for row in range(SIZES[part])]


def mat_bytes(variables: Mapping[str, Any], *, compressed: bool = True) -> bytes:
    """A MAT-file as MATLAB writes it with -v7, or -v6 where nothing is compressed."""
    stream = BytesIO()
    scipy.io.savemat(stream, dict(variables), do_compression=compressed)
    return stream.getvalue()


def big_endian(name: str, values: NDArray[np.uint8]) -> bytes:
    """A MAT-file of a big-endian machine, with numbers in one byte each and a name inside its tag."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    text = name.encode()
    assert len(text) <= 4
    parts = [
        element(6, struct.pack(">II", 6, 0)),
        element(5, struct.pack(">ii", *values.shape)),
        struct.pack(">HH4s", len(text), 1, text),
        element(2, values.tobytes(order="F")),
    ]
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI" + element(14, b"".join(parts))


def bomb(name: str, megabytes: int) -> bytes:
    """A MAT-file of a few kilobytes with a variable that takes this many when it is decompressed."""
    packer = zlib.compressobj(9)
    packed = packer.compress(struct.pack("<II", 14, megabytes * 10**6))
    packed += b"".join(packer.compress(bytes(10**6)) for _ in range(megabytes)) + packer.flush()
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    return head + struct.pack("<II", 15, len(packed)) + packed


def make_wikipedia(folder: Path, **changed: Any) -> Path:
    """A download; keyword arguments replace variables, those that are None are left out."""
    folder.mkdir(exist_ok=True)
    variables = {name: array for name, array in {**features(), **changed}.items() if array is not None}
    (folder / "raw_features.mat").write_bytes(mat_bytes(variables))
    for part in SIZES:
        write_list(folder, part, listed(part))
    return folder


def write_list(folder: Path, part: str, lines: list[str]) -> Path:
    """Write a part's list under its published name."""
    path = folder / f"{part}set_txt_img_cat.list"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
