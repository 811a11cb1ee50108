"""Arrays in several files: as numpy has them in one, named where one is wrong, and the same to whatever reads them."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import parted
from support.training import bits, log, trained, weights

from data_prep.writing import allocation
from drcli.data.batches import Batches
from drcli.data.format import SPLITS, read_info
from drcli.data.parts import MOST_FILES, PartedArray, array_files, rows_of_files
from drcli.data.plan import InputPlan
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.data.rows import Residence
from drcli.errors import DataError
from drcli.names import DATASETS
from drcli.recipe.schema import Recipe

FILE_ROWS = {"picture": 3, "film": 4, "row": 3, "text": 1, "words": 1}
"""Rows of 8, 6, 8, 16 and 24 bytes in files of 24."""


@pytest.fixture
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The same dataset in one file for each array, and in many."""
    parted.write(tmp_path / "one")
    monkeypatch.setattr(allocation, "LARGEST_FILE", 24)
    parted.write(tmp_path / "many")
    return tmp_path / "one", tmp_path / "many"


def test_a_dataset_of_small_arrays_has_the_bytes_it_has_always_had(tmp_path: Path) -> None:
    """The digest is that of the code from before there were arrays in several files."""
    parted.write(tmp_path / "one")
    digest = hashlib.sha256((tmp_path / "one" / "dataset.json").read_bytes()).hexdigest()
    assert digest == "fc45f8b67fe01b0c827151466067efa739c384620037a290f8df56c38a132bb9"


def test_the_description_says_how_the_rows_lie(roots: tuple[Path, Path]) -> None:
    one, many = map(read_info, roots)
    assert (one.format_version, one.file_rows) == (4, {})
    assert (many.format_version, many.file_rows) == (6, FILE_ROWS)
    assert replace(many, sha256={}, file_rows={}, format_version=4) == replace(one, sha256={})
    there = {str(path.relative_to(roots[1])) for path in roots[1].rglob("*.*")}
    assert there == {*many.sha256, "dataset.json"}
    assert [name for name in many.sha256 if name.startswith(("val/p", "train/picture_"))] == [
        "val/picture.000.npy",
        "val/picture.001.npy",
        "val/picture.002.npy",
        *(f"train/picture_pool.00{number}.npy" for number in range(4)),
        "train/picture_pool_labels.npy",
    ]
    assert "test/film.001.npy" in many.sha256  # 5 rows in files of 4
    assert len(np.load(roots[1] / "test" / "film.001.npy")) == 1


@pytest.mark.parametrize("residence", ["auto", "resident", "stream"])
def test_batches_are_those_of_one_file_bit_for_bit(roots: tuple[Path, Path], residence: Residence) -> None:
    first, second = (_passes(open_dataset(root), residence) for root in roots)
    assert len(first) == len(second) > 9
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys() == {"labels", *FILE_ROWS}
        for name, values in a.items():
            assert values.dtype == b[name].dtype
            assert torch.equal(values, b[name])


def test_a_modality_is_to_be_had_as_a_tensor(roots: tuple[Path, Path]) -> None:
    one, many = (open_dataset(root).split("train") for root in roots)
    assert isinstance(many.arrays["row"], PartedArray)
    assert not isinstance(one.arrays["row"], PartedArray)
    assert torch.equal(one.tensor("row"), many.tensor("row"))


def _passes(dataset: PreparedDataset, residence: Residence) -> list[dict[str, torch.Tensor]]:
    """All batches of each split in order, and of training in two random orders, pairs drawn from the pool."""
    plans = {m: InputPlan(spec) for m, spec in dataset.info.modalities.items()}
    found = []
    for split in SPLITS:
        batches = Batches(dataset.split(split), plans, torch.device("cpu"), residence, pairs_anew=True)
        found += list(batches.in_order(-(-len(batches) // 3)))
        if split == "train":
            random = torch.Generator().manual_seed(0)
            for _ in range(2):
                batches.pair_anew(random)
                found += list(batches.shuffled(8, random, random))
    return [{"labels": batch.labels, **batch.inputs} for batch in found]


@pytest.mark.parametrize("residence", ["stream", pytest.param("resident", marks=pytest.mark.slow)])
def test_weights_are_the_same_bit_for_bit(
    residence: Residence,
    toy_recipe: Callable[..., Recipe],
    toy_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two epochs with a diagnosis and a pull; 60 rows of 128 bytes for training lie in files of 7."""
    toy = DATASETS.load("toy")
    with monkeypatch.context() as patched:
        patched.setattr(allocation, "LARGEST_FILE", 7 * 128)
        toy(toy.Settings()).run(source=None, out=tmp_path / "many")
    assert len(list((tmp_path / "many" / "train").glob("audio.*.npy"))) == 9
    training = {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.05}, "data": residence}
    one, many = (
        trained(toy_recipe(dataset={"name": "toy", "root": str(root)}, training=training), tmp_path / root.name)
        for root in (toy_root, tmp_path / "many")
    )
    assert bits(weights(one)) == bits(weights(many))
    assert log(tmp_path / toy_root.name / "metrics.jsonl") == log(tmp_path / "many" / "metrics.jsonl")


def _renamed(root: Path) -> None:
    first, second = (root / "train" / f"picture.00{number}.npy" for number in (1, 2))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda root: (root / "val" / "film.001.npy").unlink(), r"val/film\.001\.npy is missing"),
    "altered": (
        lambda root: (root / "train" / "picture_pool.003.npy").write_bytes(b"x"),
        r"train/picture_pool\.003\.npy was truncated or altered",
    ),
    "swapped": (_renamed, r"train/picture\.001\.npy was truncated .*, train/picture\.002\.npy was truncated"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_part_that_is_missing_altered_or_swapped_is_named(roots: tuple[Path, Path], damage: str) -> None:
    do, message = DAMAGE[damage]
    do(roots[1])
    with pytest.raises(DataError, match=message + r".*; prepare the dataset again: `drcli prepare mixed .*--fresh`"):
        open_dataset(roots[1])


def test_a_part_of_another_length_is_named_whatever_its_digest_is(roots: tuple[Path, Path]) -> None:
    path = roots[1] / "val" / "row.001.npy"
    np.save(path, np.load(path)[:2])
    info = read_info(roots[1])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (roots[1] / "dataset.json").write_text(replace(info, sha256={**info.sha256, "val/row.001.npy": digest}).to_json())
    with pytest.raises(DataError, match=r"row\.001\.npy: holds float32 \(2, 2\), dataset.json says float32 \(3, 2\)"):
        open_dataset(roots[1])


def test_a_part_that_is_cut_short_under_a_running_training_is_named(roots: tuple[Path, Path]) -> None:
    dataset = open_dataset(roots[1])
    batches = Batches(
        dataset.split("train"), {"picture": InputPlan(dataset.info.modalities["picture"])}, torch.device("cpu")
    )
    running = batches.in_order(4)
    next(running)
    os.truncate(roots[1] / "train" / "picture.005.npy", 130)
    with pytest.raises(DataError, match=r"picture\.005\.npy: was cut from 152 to 130 bytes while it was in use"):
        list(running)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"smell": 3}, "file_rows is 'smell'; it must be modalities of the dataset"),
        ({"row": 0}, "file_rows.row is 0; it must be a whole number from 1"),
        ({"row": "3"}, "file_rows.row is '3'"),
        ([3], "file_rows is .3.; it must be a mapping"),
        ({**FILE_ROWS, "row": 2}, "sha256.train/row.008.npy is missing"),
    ],
)
def test_a_description_of_parts_that_cannot_be_is_refused(roots: tuple[Path, Path], value: Any, message: str) -> None:
    _refused(roots[1], {"file_rows": value}, message)


def test_a_description_of_more_files_than_any_array_has_is_refused_before_they_are_named(
    roots: tuple[Path, Path],
) -> None:
    changed = {"rows": {"train": 2**60, "val": 8, "test": 5}}
    _refused(roots[1], changed, rf"file_rows\.\w+ is \d; it must be so large that an array has {MOST_FILES} files")


def _refused(root: Path, changed: dict[str, Any], message: str) -> None:
    path = root / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(DataError, match=message):
        read_info(root)


def test_two_arrays_that_would_have_one_file_are_refused(roots: tuple[Path, Path]) -> None:
    raw = json.loads((roots[0] / "dataset.json").read_text())
    modalities = {**raw["modalities"], "words_lengths": raw["modalities"]["row"]}
    _refused(roots[0], {"modalities": modalities}, "two arrays would have the file train/words_lengths.npy; rename")


WHOLE = np.arange(11 * 4 * 2, dtype=np.int32).reshape(11, 4, 2)


def in_parts() -> PartedArray:
    """`WHOLE` in files of 4 rows: 4, 4 and 3."""
    return PartedArray([WHOLE[start : start + 4].copy() for start in (0, 4, 8)])


INDEXES: dict[str, Any] = {
    "row": 5,
    "last row": -1,
    "value": (7, 3, 1),
    "all": slice(None),
    "within a file": slice(5, 7),
    "across files": slice(2, 10),
    "every third": slice(1, None, 3),
    "steps over a file": slice(3, 11, 5),
    "backwards": slice(None, None, -2),
    "none": slice(3, 3),
    "column": (slice(None), 2),
    "columns": (slice(2, 9), slice(1, 3), 0),
    "numbers": np.array([9, 0, 4, 4, -1]),
    "no numbers": np.array([], np.int64),
    "numbers and a column": (np.array([9, 0, 4]), 1),
    "mask": np.arange(11) % 3 == 0,
    "list": [1, 8],
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_takes_and_sets_what_it_does_of_one_array(name: str) -> None:
    index, array, one = INDEXES[name], in_parts(), WHOLE.copy()
    np.testing.assert_array_equal(array[index], WHOLE[index])
    value = -np.arange(WHOLE[index].size).reshape(WHOLE[index].shape)
    for written in (value, -7):
        array[index] = written
        one[index] = written
        np.testing.assert_array_equal(array[:], one)


def test_rows_and_columns_are_taken_together() -> None:
    rows, columns = np.array([10, 3, 3, 4]), np.array([[0, 3], [1, 1], [2, 0], [3, 3]])
    np.testing.assert_array_equal(in_parts().take(rows, columns), WHOLE[rows[:, None], columns])
    np.testing.assert_array_equal(in_parts().take(rows), WHOLE[rows])
    assert in_parts().take(rows[:0]).shape == (0, 4, 2)


@pytest.mark.parametrize(
    "index", [11, -12, [11], [[0]], [0.5], np.zeros(3, bool), (0, [1]), (slice(None), None), ..., "a", None]
)
def test_what_is_no_index_of_rows_is_refused(index: Any) -> None:
    with pytest.raises(IndexError):
        in_parts()[index]


def test_it_says_how_large_it_is() -> None:
    array = in_parts()
    assert (len(array), array.shape, array.size, array.nbytes, array.dtype.name) == (11, (11, 4, 2), 88, 352, "int32")


@pytest.mark.parametrize(
    ("rows", "file_rows", "names", "sizes"),
    [
        (7, 0, ["a.npy"], [7]),
        (7, 7, ["a.npy"], [7]),
        (7, 6, ["a.000.npy", "a.001.npy"], [6, 1]),
        (6, 2, ["a.000.npy", "a.001.npy", "a.002.npy"], [2, 2, 2]),
    ],
)
def test_files_are_named_in_order(rows: int, file_rows: int, names: list[str], sizes: list[int]) -> None:
    assert (array_files("a", rows, file_rows), rows_of_files(rows, file_rows)) == (names, sizes)


def test_more_files_than_the_process_may_open_are_refused_with_the_way_out(roots: tuple[Path, Path]) -> None:
    dataset, limits = open_dataset(roots[1]), resource.getrlimit(resource.RLIMIT_NOFILE)
    with (roots[1] / "dataset.json").open() as stream:
        resource.setrlimit(resource.RLIMIT_NOFILE, (stream.fileno() + 10, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be mapped .*Too many open files.*; allow more with `ulimit -n`"):
            dataset.split("train")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
