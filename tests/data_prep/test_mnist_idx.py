from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from data_prep.sources.mnist_idx import find_part, read_idx, read_part
from drcli.errors import DataError


def idx_bytes(array: np.ndarray) -> bytes:
    return np.array([0x0800 + array.ndim, *array.shape], dtype=">u4").tobytes() + array.astype(np.uint8).tobytes()


IMAGES = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256
LABELS = np.array([3, 9])


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_usual_name_is_found_and_read(tmp_path: Path, name: str, zipped: bool) -> None:
    content = idx_bytes(IMAGES)
    (tmp_path / f"{name}{'.gz' if zipped else ''}").write_bytes(gzip.compress(content) if zipped else content)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(LABELS))
    paths = find_part(tmp_path, "t10k")
    assert paths is not None
    images, labels = read_part(*paths)
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.tolist() == [3, 9]


def test_half_a_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte \(or train-labels-idx1-ubyte.gz\) is missing beside"):
        find_part(tmp_path, "train")
    assert find_part(tmp_path, "t10k") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"not an IDX file of 3 dimensions \(magic number 0x0803\)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not an IDX file"),
        (idx_bytes(LABELS), "not an IDX file"),
        (idx_bytes(IMAGES)[:-1], r"holds 1567 bytes of data, its header says \(2, 28, 28\); it is truncated"),
        (idx_bytes(IMAGES) + b"x", "holds 1569 bytes"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "its header says"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-20], "cannot be read"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:30] + b"\x00" * 60, "cannot be read"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, 3)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES[:, :14], LABELS, r"images are \(14, 28\), expected \(28, 28\)"),
        (IMAGES, np.array([3]), "1 labels for the 2 images"),
        (IMAGES, np.array([3, 10]), r"expected labels from 0 to 9, got \[3, 10\]"),
        (IMAGES[:0], LABELS[:0], r"got \[\]"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    (tmp_path / "images").write_bytes(idx_bytes(images))
    (tmp_path / "labels").write_bytes(idx_bytes(labels))
    with pytest.raises(DataError, match=message):
        read_part(tmp_path / "images", tmp_path / "labels")
