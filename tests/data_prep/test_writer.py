from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.writing import statistics as module
from data_prep.writing.writer import DatasetWriter
from drcli.data.format import DatasetInfo, ModalityInfo, file_sha256, read_info
from drcli.errors import DataError


def write(root: Path, train: np.ndarray, dtype: str = "float16") -> DatasetInfo:
    writer = DatasetWriter(root, name="toy", classes=("a", "b"))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1, 1], ids=["x", "y", "y"])
        part.array("audio", (1, 1, *train.shape[1:])[-3:], dtype)[:] = train.reshape(3, *(1, 1, *train.shape[1:])[-3:])
    return writer.finish(settings={"seed": 0}, source={"fingerprint": "f", "limit": None})


def test_statistics_are_those_of_train_in_float64(tmp_path: Path) -> None:
    train = np.array([[1000.0, 1001.0], [1002.0, 1003.0], [1004.0, 1005.0]])
    info = write(tmp_path, train)
    assert info.modalities["audio"].mean == pytest.approx((1002.5,))
    assert info.modalities["audio"].std == pytest.approx((np.sqrt(35 / 12),))
    assert info.modalities["audio"].shape == (1, 1, 2)


def test_statistics_do_not_depend_on_the_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = np.random.default_rng(0).integers(0, 256, (3, 5, 7))
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = write(tmp_path / "a", train, "uint8").modalities["audio"]
    monkeypatch.setattr(module, "_CHUNK_BYTES", 8)
    pieces = write(tmp_path / "b", train, "uint8").modalities["audio"]
    assert (*pieces.mean, *pieces.std) == pytest.approx((*whole.mean, *whole.std))
    assert (*whole.mean, *whole.std) == pytest.approx((train.mean(), train.std()))


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("lengths", [None, np.array([3, 0, 1, 2] * 25)])
def test_statistics_by_dimension_are_numpy_s_bit_for_bit_whatever_the_pieces(
    width: int, lengths: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).normal(3, 2, (100, 3, width) if lengths is not None else (100, width))
    array = array.astype(np.float32)
    values = array if lengths is None else array[np.arange(3) < lengths[:, None]]
    wanted = values.mean(0, np.float64).tolist(), values.astype(np.float64).std(0).tolist()
    for size in (8, 1000, 10**6):
        monkeypatch.setattr(module, "_SMALL_CHUNK", size)
        mean, std = module.statistics(array, "vector" if lengths is None else "sequence", lengths, None)
        assert (list(mean), list(std)) == wanted


def test_statistics_by_dimension_take_little_memory_whatever_the_array() -> None:
    array, lengths = np.zeros((400, 50, 300), np.float32), np.full(400, 49)  # 24 MB
    array[::2] = 1
    tracemalloc.start()
    module.statistics(array, "sequence", lengths, None)
    module.statistics(array.reshape(-1, 300), "vector", None, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < array.nbytes


def test_description_names_and_digests_every_file(tmp_path: Path) -> None:
    info = write(tmp_path, np.arange(6.0).reshape(3, 2))
    assert read_info(tmp_path) == info
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} - {"dataset.json"}
    assert set(info.sha256) == files
    assert all(file_sha256(tmp_path / path) == digest for path, digest in info.sha256.items())
    assert (info.rows["val"], info.samples["val"]) == (3, 2)


@pytest.mark.parametrize(("value", "dtype"), [(3.0, "float16"), (0.0, "uint8"), (0.1, "float32"), (1e9 / 3, "float32")])
def test_a_modality_that_is_constant_says_so(tmp_path: Path, value: float, dtype: str) -> None:
    with pytest.raises(DataError, match="modality audio is constant over the training split and says nothing"):
        write(tmp_path, np.full((3, 2), value), dtype)
    assert not (tmp_path / "dataset.json").exists()


@pytest.mark.parametrize("kind", ["frames", "sequence"])
def test_a_constant_modality_is_found_behind_fixed_statistics_and_behind_padding(tmp_path: Path, kind: str) -> None:
    writer = DatasetWriter(tmp_path, name="toy", classes=("a", "b"))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1], ids=["x", "y"])
        if kind == "frames":
            part.array("m", (4, 3, 8, 8), "uint8", kind=kind, statistics=((120.0,), (60.0,)))[:] = 16
        else:
            part.array("m", (4, 2), "float32", kind=kind)[:, :2] = [0.1, 5.0]
            part.lengths("m", [2, 1])
    with pytest.raises(DataError, match="modality m is constant over the training split"):
        writer.finish(settings={}, source={"fingerprint": "f", "limit": None})


@pytest.mark.parametrize("factor", [1e-9, 1e-30, 1e9])
def test_the_unit_of_a_modality_does_not_matter(tmp_path: Path, factor: float) -> None:
    train = np.arange(6.0).reshape(3, 2)
    found = write(tmp_path, train * factor, "float32").modalities["audio"]
    assert found.mean == pytest.approx((2.5 * factor,))
    assert found.std == pytest.approx((np.sqrt(35 / 12) * factor,))
    assert read_info(tmp_path).modalities["audio"] == found


def test_a_constant_dimension_of_a_sequence_is_left_unscaled_whatever_its_unit(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, name="toy", classes=("a", "b"))
    varying = 1e-9 * np.arange(30.0).reshape(10, 3)
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1] * 5, ids=[str(row) for row in range(10)])
        part.array("m", (3, 2), "float32", kind="sequence")[:] = np.stack([varying, np.full((10, 3), 0.1)], axis=-1)
        part.lengths("m", [3] * 10)
    found = writer.finish(settings={}, source={"fingerprint": "f", "limit": None}).modalities["m"]
    assert found.mean == pytest.approx((1e-9 * 14.5, 0.1))
    assert found.std == pytest.approx((1e-9 * np.sqrt((30**2 - 1) / 12), 1.0))


def vectors(root: Path, rows: Any) -> ModalityInfo:
    writer = DatasetWriter(root, name="toy", classes=("a", "b"))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1], ids=["0", "1"])
        part.array("m", (2,), "float32", kind="vector")[:] = rows if split == "train" else [[9.0, 9.0], [7.0, 7.0]]
    return writer.finish(settings={}, source={"fingerprint": "f", "limit": None}).modalities["m"]


def test_each_dimension_of_vectors_has_statistics_of_the_training_split(tmp_path: Path) -> None:
    found = vectors(tmp_path, [[1.0, 5.0], [4.0, 5.0]])
    assert found == ModalityInfo((2,), "float32", (2.5, 5.0), (1.5, 1.0), "vector")


def test_vectors_that_are_all_the_same_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="modality m is constant over the training split"):
        vectors(tmp_path, [[1.0, 5.0], [1.0, 5.0]])


def test_values_that_float32_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"modality audio varies by 1.7\d*e-40 around .*; subtract the offset, or give"):
        write(tmp_path, 1e-40 * np.arange(6.0).reshape(3, 2), "float32")


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_in_every_split(tmp_path: Path, split: str, value: float) -> None:
    writer = DatasetWriter(tmp_path, name="toy", classes=("a", "b"))
    for name in ("train", "val", "test"):
        part = writer.split(name, labels=[0, 1, 1], ids=["x", "y", "z"])
        array = part.array("audio", (1, 1, 2), "float16")
        array[:] = np.arange(6.0).reshape(3, 1, 1, 2)
        if name == split:
            array[1, 0, 0, 1] = value
    with pytest.raises(DataError, match=rf"modality audio is not finite in split {split}, row 1 first; check the sou"):
        writer.finish(settings={}, source={"fingerprint": "f", "limit": None})
    assert not (tmp_path / "dataset.json").exists()


@pytest.mark.parametrize(
    ("classes", "shape", "message"),
    [
        (("a", "a"), (1, 1, 2), "classes names 'a' twice"),
        (("a", ""), (1, 1, 2), "classes is ''; it must be a string"),
        (("a", "b"), (2,), "shape is .2.; it must be 3 axes for the kind array"),
    ],
)
def test_a_dataset_that_could_not_be_opened_is_not_written(
    tmp_path: Path, classes: tuple[str, ...], shape: tuple[int, ...], message: str
) -> None:
    writer = DatasetWriter(tmp_path, name="toy", classes=classes)
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 1, 1], ids=["x", "y", "z"])
        part.array("audio", shape, "float16")[:] = np.arange(6.0).reshape(3, *shape)
    with pytest.raises(DataError, match=message):
        writer.finish(settings={}, source={"fingerprint": "f", "limit": None})
