"""What arrays may mean instead: pictures without a channel, samples in two splits, labels that are no names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arrays_tree import SIZES, labelled, prepare, samples, write

from drcli.data.format import SPLITS
from drcli.errors import DataError


def pictures(split: str) -> np.ndarray:
    shown: np.ndarray = samples(split)["visual"]
    return shown[:, 0]


def test_pictures_without_a_channel_are_pointed_out_with_the_setting_that_makes_them_pictures(tmp_path: Path) -> None:
    warnings: list[str] = []
    changed: dict[str, Any] = {split: {"visual": pictures(split)} for split in SPLITS}
    source = write(tmp_path / "in", **changed)
    info = prepare(source, tmp_path / "sequences", warn=warnings.append)
    assert (info.modalities["visual"].kind, info.modalities["visual"].shape) == ("sequence", (8, 8))
    assert warnings.pop() == (
        "visual: samples (8, 8) are taken for sequences of 8 steps; if they are pictures of 8 x 8, set "
        "dataset.prepare.kinds.visual=array; dataset.prepare.kinds.visual=sequence confirms what was taken"
    )
    prepare(source, tmp_path / "confirmed", warn=warnings.append, kinds={"visual": "sequence"})
    info = prepare(source, tmp_path / "pictures", warn=warnings.append, kinds={"visual": "array"})
    assert (info.modalities["visual"].kind, info.modalities["visual"].shape) == ("array", (1, 8, 8))
    np.testing.assert_array_equal(np.load(tmp_path / "pictures/val/visual.npy")[:, 0], pictures("val"))
    assert warnings == []


@pytest.mark.parametrize("names", [["val"], ["test"], ["val", "test"]])
def test_samples_of_train_in_another_file_are_counted(tmp_path: Path, names: list[str]) -> None:
    warnings: list[str] = []
    copies = {name: array[:3] for name, array in samples("train").items()}
    changed: dict[str, Any] = {
        split: {name: np.concatenate([array[:-3], copies[name]]) for name, array in samples(split).items()}
        for split in names
    }
    info = prepare(write(tmp_path / "in", **changed), tmp_path / "out", warn=warnings.append)
    assert [line.partition(";")[0] for line in warnings][: len(names)] == [
        f"{split}.npz: 3 of the {SIZES[split]} samples of {split} are also in train, equal in every modality"
        for split in names
    ]
    expected = {split: {"train": 3} for split in names}
    if len(names) == 2:
        expected["test"]["val"] = 3
    assert info.source["repeated"] == expected


def test_samples_that_are_equal_in_one_modality_alone_are_no_repetition(tmp_path: Path) -> None:
    warnings: list[str] = []
    changed = {**samples("val"), "visual": samples("train")["visual"][:9]}
    info = prepare(write(tmp_path / "in", val=changed), tmp_path / "out", warn=warnings.append)
    assert warnings == []
    assert "repeated" not in info.source


LARGE = 2**64 - 1


@pytest.mark.parametrize("train", [np.uint64, np.int64])
def test_labels_beyond_63_bits_keep_their_names(tmp_path: Path, train: type[np.integer]) -> None:
    values: np.ndarray = np.array([5, 7, LARGE if train is np.uint64 else 9], dtype=train)
    others = np.array([5, 7, values[2]], dtype=np.uint64)
    columns = {split: np.resize(values if split == "train" else others, SIZES[split]) for split in SPLITS}
    source = write(tmp_path / "in", **labelled(columns))
    assert prepare(source, tmp_path / "out").classes == ("5", "7", str(values[2]))
    assert np.load(tmp_path / "out/test/labels.npy").tolist() == [0, 1, 2] * 4


def test_a_large_label_that_train_lacks_is_named(tmp_path: Path) -> None:
    columns = {split: np.resize(np.array([-5, 7]), SIZES[split]) for split in SPLITS}
    columns["val"] = np.resize(np.array([7, LARGE], dtype=np.uint64), SIZES["val"])
    source = write(tmp_path / "in", **labelled(columns))
    with pytest.raises(DataError, match=f"val.npz: array 'labels' has classes that train.npz lacks: {LARGE};"):
        prepare(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("", "holds the label '', which cannot be shown as a class; rename it"),
        ("a\nb", r"holds the label 'a\nb', which"),
        ("\x1b[31m", r"holds the label '\x1b[31m', which"),
        ("\ud800", r"holds the label '\ud800', which"),
        (b"\xff", "holds labels that are not text ("),
    ],
)
def test_labels_that_cannot_be_shown_are_refused(tmp_path: Path, label: Any, message: str) -> None:
    labels = np.resize(np.array([label, type(label)(b"b") if isinstance(label, bytes) else "b"]), SIZES["train"])
    with pytest.raises(DataError) as caught:
        prepare(write(tmp_path / "in", train={"labels": labels}), tmp_path / "out")
    assert f"train.npz: array 'labels' {message}" in str(caught.value)


def test_a_space_at_the_end_of_a_label_is_seen(tmp_path: Path) -> None:
    labels = np.array(["cat "] * 12)
    with pytest.raises(DataError, match=r"has classes that train\.npz lacks: 'cat ';"):
        prepare(write(tmp_path / "in", test={"labels": labels}), tmp_path / "out")
