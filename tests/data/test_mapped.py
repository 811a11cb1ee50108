"""Arrays on disk: header, dataset.json and length must agree, and a file that is cut short is noticed."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from drcli.data.batches import Batches
from drcli.data.plan import InputPlan
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.data.rows import MappedFile, Residence, open_array
from drcli.errors import DataError

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def npy(header: str, content: bytes = b"") -> bytes:
    """An array file with a header of one's own."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def described(shape: str, descr: str = "'<f4'", order: bool = False) -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_whole_file_is_mapped_and_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(saved(VALUES))
    found = open_array(path, (4, 3), "float32")
    np.testing.assert_array_equal(found, VALUES)
    found[:] = 0
    assert path.read_bytes() == saved(VALUES)


HUGE = (2**40, 3)


@pytest.mark.parametrize(
    ("content", "shape", "message"),
    [
        (saved(VALUES)[:-1], (4, 3), "has 175 bytes, its header says 176"),
        (saved(VALUES) + b"x", (4, 3), "has 177 bytes, its header says 176"),
        (npy(described(str(HUGE))), HUGE, "has 128 bytes, its header says 13194139533440"),
        (npy(described(str(HUGE))), (4, 3), r"holds float32 \(1099511627776, 3\), dataset.json says float32 \(4, 3\)"),
        (saved(VALUES), (4, 2), r"holds float32 \(4, 3\), dataset.json says float32 \(4, 2\)"),
        (saved(VALUES.astype(np.float64)), (4, 3), "holds float64"),
        (saved(VALUES.astype(">f4")), (4, 3), r"holds float32 \(4, 3\), bytes swapped, dataset.json"),
        (saved(np.asfortranarray(VALUES)), (4, 3), r"holds float32 \(4, 3\), column by column, dataset.json"),
        (npy(described("(-4, 3)")), (4, 3), r"holds float32 \(-4, 3\)"),
        (npy(described("(4, 3)", "'|O'")), (4, 3), "not a readable array .it holds Python objects"),
        (npy(described("'text'")), (4, 3), "not a readable array"),
        (npy(described("(4, 3)", "'<f99'")), (4, 3), "not a readable array"),
        (npy(described("(4, 3)", "[('a', '<f4')]")), (4, 3), "holds void"),
        (npy("(" * 110), (4, 3), "not a readable array"),
        (npy("{'descr':"), (4, 3), "not a readable array"),
        (b"\x93NUMPY\x03\x00" + saved(VALUES)[8:], (4, 3), "not a readable array .version .3, 0. of the format"),
        (b"PK\x03\x04" + bytes(200), (4, 3), "not a readable array"),
        (b"", (4, 3), "not a readable array"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_before_it_is_mapped(
    tmp_path: Path, content: bytes, shape: tuple[int, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    monkeypatch.delattr(np, "memmap")
    with pytest.raises(DataError, match=rf"a.npy: {message}.*prepare.* again with --fresh"):
        open_array(path, shape, "float32")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy: not a readable array .not a regular file"):
        open_array(tmp_path / "a.npy", (4, 3), "float32")


def batches(dataset: PreparedDataset, residence: Residence) -> Batches:
    plans = {m: InputPlan(spec) for m, spec in dataset.info.modalities.items()}
    return Batches(dataset.split("train"), plans, torch.device("cpu"), residence)


@pytest.fixture
def dataset(toy_root: Path, tmp_path: Path) -> PreparedDataset:
    """A copy that a test may damage; its files are several pages long."""
    (tmp_path / "toy").mkdir()
    for path in toy_root.rglob("*"):
        copy = tmp_path / "toy" / path.relative_to(toy_root)
        copy.mkdir(exist_ok=True) if path.is_dir() else copy.write_bytes(path.read_bytes())
    return open_dataset(tmp_path / "toy")


@pytest.mark.parametrize("residence", ["auto", "stream"])
def test_a_file_that_is_cut_short_under_a_running_training_is_named(
    dataset: PreparedDataset, residence: Residence
) -> None:
    running = batches(dataset, residence).in_order(4)
    next(running)
    path = dataset.root / "train" / "visual.npy"
    os.truncate(path, 256)
    with pytest.raises(DataError) as caught:
        list(running)
    assert str(caught.value) == (
        f"{path}: was cut from {128 + 60 * 64 * 2} to 256 bytes while it was in use; prepare the dataset again with "
        "--fresh, then repeat the command"
    )


@pytest.mark.parametrize("change", [Path.unlink, lambda path: os.truncate(path, 100_000)])
def test_a_file_that_was_deleted_or_has_grown_is_read_on(
    dataset: PreparedDataset, change: Callable[[Path], None]
) -> None:
    running = batches(dataset, "auto").in_order(20)
    first = next(running)
    change(dataset.root / "train" / "visual.npy")
    assert [len(batch.labels) for batch in [first, *running]] == [20, 20, 20]


def test_a_file_that_is_cut_short_before_it_is_read_into_memory_is_named(dataset: PreparedDataset) -> None:
    split = dataset.split("train")
    os.truncate(dataset.root / "train" / "visual.npy", 256)
    with pytest.raises(DataError, match=r"visual\.npy: was cut from 7808 to 256 bytes"):
        Batches(split, {"visual": InputPlan(dataset.info.modalities["visual"])}, torch.device("cpu"), "resident")


def test_labels_are_in_memory_and_survive_their_file(dataset: PreparedDataset) -> None:
    split = dataset.split("train")
    os.truncate(dataset.root / "train" / "labels.npy", 0)
    assert split.labels.tolist() == [0, 1, 2] * 20
    with pytest.raises(DataError, match=r"labels\.npy: not a readable array"):
        dataset.split("train")


def test_a_file_that_cannot_be_looked_at_is_no_error(tmp_path: Path) -> None:
    MappedFile(tmp_path / "gone.npy", 10).check()
