from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from data_prep.sources import mnist_idx
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


def test_a_small_file_that_unpacks_to_much_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(bytes(50 * 10**6)))
    monkeypatch.setattr(mnist_idx, "LARGEST", 10**6)
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 1 MB, and MNIST's largest file has 47 MB"):
        read_idx(path, 3)
    assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    tracemalloc.stop()


def test_sizes_whose_product_is_beyond_64_bits_are_refused(tmp_path: Path) -> None:
    # 2^22 * 2^21 * 2^21 = 2^64, which is 0 in 64 bits, as many bytes as follow
    path = tmp_path / "images"
    path.write_bytes(np.array([0x0803, 2**22, 2**21, 2**21], dtype=">u4").tobytes())
    with pytest.raises(DataError, match="holds 0 bytes of data, its header says"):
        read_idx(path, 3)


def test_files_are_found_whatever_the_case_of_their_names_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("T10K-images-idx3-ubyte.GZ", "t10k-labels-idx1-ubyte", "._train-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes(b"")
    assert find_part(tmp_path, "t10k") == (tmp_path / "T10K-images-idx3-ubyte.GZ", tmp_path / "t10k-labels-idx1-ubyte")
    assert find_part(tmp_path, "train") is None


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t10k-labels-idx1-ubyte")
    with pytest.raises(DataError, match="is a pipe, not a file"):
        find_part(tmp_path, "t10k")
    with pytest.raises(DataError, match="is a pipe, not a file"):
        read_idx(tmp_path / "t10k-labels-idx1-ubyte", 1)


def test_the_genuine_training_part_is_read(shared: Path) -> None:
    paths = find_part(shared / "data" / "mnist", "train")
    if paths is None:
        pytest.skip("the training part is not here")
    images, labels = read_part(*paths)
    assert images.shape == (60_000, 28, 28)
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
