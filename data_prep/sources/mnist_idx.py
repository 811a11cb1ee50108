"""MNIST in its IDX files: big-endian header (magic, then one size per dimension), then bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.files.folders import find_named
from data_prep.files.opening import MB, open_file
from data_prep.writing.splits import Indices
from drcli.errors import DataError

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
PARTS = ("train", "t10k")
LARGEST = 256 * MB
"""Bytes, unpacked."""


def find_part(folder: Path, part: str) -> tuple[Path, Path] | None:
    """Paths of the images and labels of one part; None if neither is there.

    Args:
        folder: where the files are.
        part: "train" or "t10k".

    Raises:
        DataError: only one of the two is there.
    """
    images, labels = (_find(folder, f"{part}-{kind}") for kind in (IMAGES, LABELS))
    if images and labels:
        return images, labels
    if images or labels:
        missing = f"{part}-{LABELS if images else IMAGES}"
        raise DataError(f"{folder}: {missing} (or {missing}.gz) is missing beside {(images or labels)}")
    return None


def _find(folder: Path, name: str) -> Path | None:
    names = [name, name.replace("-idx", ".idx")]  # some unpackers put a dot
    return find_named(folder, *(f"{name}{suffix}" for name in names for suffix in ("", ".gz")))


def read_part(images_path: Path, labels_path: Path) -> tuple[NDArray[np.uint8], Indices]:
    """Images (N, 28, 28) and labels (N,) of one part.

    Raises:
        DataError: a file is damaged or not what its name says, or the two do not belong together.
    """
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.shape[1:] != (28, 28):
        raise DataError(f"{images_path}: images are {images.shape[1:]}, expected (28, 28)")
    if len(images) != len(labels):
        raise DataError(f"{labels_path}: {len(labels)} labels for the {len(images)} images of {images_path}")
    if len(labels) == 0 or labels.max() > 9:
        raise DataError(f"{labels_path}: expected labels from 0 to 9, got {sorted(set(labels.tolist()))}")
    return images, labels.astype(np.int64)


def read_idx(path: Path, num_dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, gzipped or not.

    Args:
        path: the file; gzip is recognised by content.
        num_dimensions: 3 for images, 1 for labels.

    Raises:
        DataError: wrong magic number, or a size that differs from the header's.
    """
    content = _read_bytes(path)
    magic = 0x0800 + num_dimensions  # 0x08: unsigned bytes
    start = 4 + 4 * num_dimensions
    if len(content) < start or int.from_bytes(content[:4], "big") != magic:
        raise DataError(f"{path}: not an IDX file of {num_dimensions} dimensions (magic number {magic:#06x})")
    shape = tuple(np.frombuffer(content, ">u4", num_dimensions, offset=4).tolist())
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: holds {len(content) - start} bytes of data, its header says {shape}; "
            "it is truncated or damaged, download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    """The content of a file, unpacked if it is gzipped, of at most `LARGEST` bytes."""
    with open_file(path, limit=LARGEST) as stream:
        try:
            is_packed = stream.read(2) == b"\x1f\x8b"
            stream.seek(0)
            content = (gzip.GzipFile(fileobj=stream) if is_packed else stream).read(LARGEST + 1)
        except (OSError, EOFError, zlib.error, struct.error) as error:
            raise DataError(f"{path}: cannot be read ({error}); download it again") from error
    if len(content) > LARGEST:
        raise DataError(f"{path}: unpacks to more than {LARGEST / MB:,.0f} MB, and MNIST's largest file has 47 MB")
    return content
