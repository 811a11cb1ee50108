from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_prep.cmu_mosi import CmuMosi
from data_prep.writing.writer import DatasetWriter
from drcli.data.format import DatasetInfo, file_sha256, read_info
from drcli.data.prepared import open_dataset
from drcli.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes dataset "toy": labels 0 1 2 0 1 2 in train, 2 draws of each sample elsewhere."""

    def make(**labels: list[int]) -> Path:
        root = tmp_path / "toy"
        root.mkdir()
        writer = DatasetWriter(root, name="toy", classes=("ant", "bee", "cow"))
        for split in ("train", "val", "test"):
            draws = 1 if split == "train" else 2
            values = np.repeat(labels.get(split, [0, 1, 2, 0, 1, 2]), draws)
            ids = [f"{split}-{row // draws}" for row in range(len(values))]
            part = writer.split(split, labels=values.tolist(), ids=ids)
            part.array("audio", (1, 1, 2), "float16")[:, 0, 0] = np.arange(2 * len(values)).reshape(-1, 2)
            part.array("visual", (1, 1, 3), "uint8")[:, 0, 0] = np.arange(3 * len(values)).reshape(-1, 3)
        writer.finish(settings={"seed": 0, "noise": 0.5}, source={"fingerprint": "f", "limit": None})
        return root

    return make


def rewrite(root: Path, info: DatasetInfo, **changes: Any) -> None:
    """Change the description, digests brought up to date: damage that no checksum shows."""
    digests = {path: file_sha256(root / path) for path in info.sha256}
    changed = dataclasses.replace(info, sha256=digests, **changes)
    (root / "dataset.json").write_text(changed.to_json())


def test_a_split_comes_back_as_it_was_written(write: Write) -> None:
    dataset = open_dataset(write())
    assert (dataset.num_classes, dataset.warnings) == (3, ())
    val = dataset.split("val")
    assert (val.name, val.num_rows, val.num_samples) == ("val", 12, 6)
    assert val.labels.tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]
    assert val.sample.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert val.weight.tolist() == [0.5] * 12
    assert {m: (array.dtype, tuple(array.shape)) for m, array in val.arrays.items()} == {
        "audio": (torch.float16, (12, 1, 1, 2)),
        "visual": (torch.uint8, (12, 1, 1, 3)),
    }
    assert val.arrays["visual"][1, 0, 0].tolist() == [3, 4, 5]
    assert dataset.split("train").weight.tolist() == [1.0] * 6


def test_weights_make_every_sample_count_once_whatever_its_draws(write: Write) -> None:
    root = write()
    (root / "val" / "ids.txt").write_text("b\na\na\na\nb\n" + "".join(f"{row}\n" for row in range(7)))
    info = open_dataset_unchecked(root)
    rewrite(root, info, samples={**info.samples, "val": 9})
    val = open_dataset(root).split("val")
    assert val.sample.tolist() == [0, 1, 1, 1, 0, 2, 3, 4, 5, 6, 7, 8]
    assert val.weight[:5].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 3, 1 / 3, 1 / 2])
    assert val.weight.sum().item() == pytest.approx(val.num_samples)


@pytest.mark.parametrize(
    ("decoders", "warned"),
    [
        ({"av": "14.0"}, True),
        ({"av": "14.0", "decoding": "1"}, True),
        ({"av": "14.0", "decoding": "2"}, False),
        ({"h5py": "3.1"}, False),
    ],
)
def test_clips_that_an_earlier_decoding_gave_are_warned_of(
    write: Write, decoders: dict[str, str], warned: bool
) -> None:
    root = write()
    info = open_dataset_unchecked(root)
    rewrite(root, info, source={**info.source, "decoders": decoders})
    warnings = open_dataset(root).warnings
    assert len(warnings) == warned
    assert all(
        "wrong pictures" in line and f"`drcli prepare toy [--source DIR] --out {root}" in line for line in warnings
    )


def open_dataset_unchecked(root: Path) -> DatasetInfo:
    return read_info(root)


def test_writing_to_a_tensor_leaves_the_file_alone(write: Write) -> None:
    root = write()
    train = open_dataset(root).split("train")
    train.tensor("audio").zero_()
    assert open_dataset(root).split("train").arrays["audio"][0, 0, 0].tolist() == [0.0, 1.0]


def test_opening_train_touches_no_file_of_test(write: Write) -> None:
    root = write()
    dataset = open_dataset(root)
    for path in (root / "test").iterdir():
        path.unlink()
    assert dataset.split("train").num_rows == 6
    with pytest.raises(DataError, match=r"test/ids.txt: cannot be read .*prepare again with --fresh"):
        dataset.split("test")


def test_a_missing_dataset_is_refused_with_the_command_that_makes_it(tmp_path: Path) -> None:
    where = tmp_path / "data" / "x"
    with pytest.raises(DataError) as caught:
        open_dataset(where, name="avmnist")
    assert str(caught.value) == (
        f"{where}: no prepared dataset here (dataset.json is missing); "
        f"run `drcli prepare avmnist --source DIR --out {where}`"
    )
    with pytest.raises(DataError, match="run `drcli prepare digits --out "):
        open_dataset(where, name="digits")
    settings = {**CmuMosi.Settings().model_dump(mode="json"), "file": "bc-LSTM", "val_videos": 3}
    with pytest.raises(
        DataError, match=r"cmu_mosi --source DIR dataset\.prepare\.file=bc-LSTM .*\.val_videos=3 --out "
    ):
        open_dataset(where, name="cmu_mosi", settings=settings)


def test_another_dataset_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"holds dataset 'toy', the recipe asks for 'digits'; point dataset\.root"):
        open_dataset(write(), name="digits")


def test_other_settings_are_refused_with_each_difference(write: Write) -> None:
    root = write()
    open_dataset(root, name="toy", settings={"seed": 0, "noise": 0.5})
    with pytest.raises(
        DataError,
        match=r"\(noise: 0.5 in the folder, 0.3 requested; seed: 0 in the folder, 1 requested\); change the recipe",
    ):
        open_dataset(root, settings={"seed": 1, "noise": 0.3})


def test_another_version_is_refused(write: Write) -> None:
    root = write()
    raw = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**raw, "format_version": 99}))
    with pytest.raises(DataError, match="format_version is 99, this drcli reads 1, 2, 3, 4, 5 and 6"):
        open_dataset(root)


def test_a_flipped_byte_is_noticed(write: Write) -> None:
    root = write()
    content = bytearray((root / "test" / "audio.npy").read_bytes())
    content[-1] ^= 1
    (root / "test" / "audio.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"test/audio.npy was truncated or altered since it was prepared"):
        open_dataset(root)


@pytest.mark.parametrize("name", ["audio.npy", "labels.npy", "ids.txt"])
def test_a_truncated_file_is_noticed(write: Write, name: str) -> None:
    root = write()
    path = root / "train" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=f"train/{name} was truncated or altered"):
        open_dataset(root)


def test_a_missing_file_is_noticed(write: Write) -> None:
    root = write()
    (root / "val" / "visual.npy").unlink()
    with pytest.raises(
        DataError, match=r"val/visual.npy is missing; prepare the dataset again: `drcli prepare toy \[--source DIR\]"
    ):
        open_dataset(root)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((6, 1, 1, 3), np.float16),
            r"holds float16 \(6, 1, 1, 3\), dataset.json says float16 \(6, 1, 1, 2\)",
        ),
        (np.zeros((6, 1, 1, 2), np.float32), "holds float32"),
        (np.array([{}]), "not a readable array"),
    ],
)
def test_an_array_of_another_kind_is_refused(write: Write, array: np.ndarray, message: str) -> None:
    root = write()
    np.save(root / "train" / "audio.npy", array, allow_pickle=True)
    rewrite(root, open_dataset_unchecked(root))
    with pytest.raises(DataError, match=message):
        open_dataset(root)


def test_ids_that_do_not_fit_the_labels_are_refused(write: Write) -> None:
    root = write()
    (root / "train" / "ids.txt").write_text("a\nb\n")
    rewrite(root, open_dataset_unchecked(root))
    with pytest.raises(DataError, match=r"ids.txt: 2 lines with 2 ids, dataset.json says 6 with 6"):
        open_dataset(root)


@pytest.mark.parametrize("bad", [3, -1])
def test_labels_out_of_range_are_refused(write: Write, bad: int) -> None:
    with pytest.raises(DataError, match=r"val/labels.npy: labels run from .* allowed are 0 to 2"):
        open_dataset(write(val=[0, 1, 2, bad]))


@pytest.mark.parametrize("split", ["train", "val"])
def test_fewer_samples_than_classes_are_refused(write: Write, split: str) -> None:
    with pytest.raises(DataError, match=f"split {split} has 2 samples for 3 classes, K-means needs at least"):
        open_dataset(write(**{split: [0, 1]}))


def test_a_class_absent_from_train_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match="class cow is absent from train; prepare with a larger --limit"):
        open_dataset(write(train=[0, 1, 0, 1]))


def test_a_class_absent_elsewhere_is_a_warning(write: Write) -> None:
    dataset = open_dataset(write(val=[0, 1, 0], test=[2]))
    assert [line.partition(": ")[2] for line in dataset.warnings] == [
        "class cow is absent from val",
        "classes ant, bee are absent from test",
    ]
