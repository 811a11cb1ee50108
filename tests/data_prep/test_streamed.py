"""`drcli.prepare_from`: samples that come one after another, of unknown number and length."""

from __future__ import annotations

import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.arrays_tree import CLASSES, SIZES, ids, samples, write
from support.arrays_tree import prepare as prepare_files
from torch.utils.data import Dataset

import drcli
from data_prep.sources import staged
from drcli.data.format import SPLITS, DatasetInfo, read_info
from drcli.data.prepared import open_dataset
from drcli.engine.assemble import prepare_settings
from drcli.errors import DataError, DrcliError, UsageError
from drcli.recipe.load import load_recipe
from drcli.recipe.shipped import find_recipe

ITEMS = ("audio", "visual")


def rows(split: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The samples of the tree of .npz files, one after another; sequences without their padding."""
    given = samples(split)
    for row, label in enumerate(given["labels"]):
        text = given["text"][row, : given["text_lengths"][row]]
        yield {**{m: given[m][row] for m in ITEMS}, "text": text}, str(label)


def vectors(split: str, count: int = 12, **more: Any) -> list[tuple[dict[str, Any], int]]:
    draw = np.random.default_rng(len(split))
    return [({"x": draw.normal(size=3), **more}, row % 2) for row in range(count)]


def both(**more: Any) -> dict[str, Any]:
    return {split: vectors(split, **more) for split in SPLITS}


def prepare(splits: Mapping[str, Any], out: Path, **options: Any) -> DatasetInfo:
    return drcli.prepare_from(splits, out, progress=False, **options).info


def array(out: Path, split: str, name: str) -> Any:
    return np.load(out / split / f"{name}.npy")


@pytest.mark.parametrize("chunk", [1000, 64 * 2**20])
def test_generators_give_what_files_of_the_same_samples_give(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged, "CHUNK_BYTES", chunk)
    info = prepare({split: rows(split) for split in SPLITS}, tmp_path / "ours")
    of_files = prepare_files(write(tmp_path / "in"), tmp_path / "files")
    assert (info.classes, info.rows, info.modalities) == (CLASSES, SIZES, of_files.modalities)
    assert info.sha256 == of_files.sha256
    assert info.settings == of_files.settings
    assert (info.source["made"]["by"], info.source["files"]) == ("drcli.prepare_from", {s: s for s in SPLITS})
    assert sorted(path.name for path in (tmp_path / "ours").iterdir()) == ["dataset.json", "test", "train", "val"]
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "files", "in"}


def test_the_fingerprint_is_that_of_the_samples(tmp_path: Path) -> None:
    found = [prepare(both(), tmp_path / name).source["fingerprint"] for name in ("one", "two")]
    changed = both()
    changed["test"][-1][0]["x"][0] += 1
    assert found[0] == found[1] != prepare(changed, tmp_path / "three").source["fingerprint"]


class Numbers(Dataset[tuple[dict[str, torch.Tensor], torch.Tensor]]):
    """A map-style dataset that knows no end but its length."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, row: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        return {"x": torch.arange(3.0) + row, "y": torch.full((2, 4, 4), row, dtype=torch.uint8)}, torch.tensor(row % 3)


def test_torch_datasets_and_tensors_are_taken(tmp_path: Path) -> None:
    info = prepare({split: Numbers() for split in SPLITS}, tmp_path / "out", classes=["c", "b", "a"])
    assert info.classes == ("c", "b", "a")
    assert array(tmp_path / "out", "val", "labels").tolist() == [0, 1, 2] * 4
    assert array(tmp_path / "out", "val", "x")[5].tolist() == [5, 6, 7]
    assert (info.modalities["y"].dtype, info.modalities["y"].shape) == ("uint8", (2, 4, 4))


def test_labels_may_be_names_of_the_given_classes(tmp_path: Path) -> None:
    named = {split: [(x, ("dog", "cat")[label]) for x, label in found] for split, found in both().items()}
    assert prepare(named, tmp_path / "out", classes=["dog", "cat"]).classes == ("dog", "cat")
    assert array(tmp_path / "out", "test", "labels").tolist() == [0, 1] * 6
    assert prepare(named, tmp_path / "sorted").classes == ("cat", "dog")


def test_sequences_are_padded_to_the_longest_of_all_splits_or_cut_at_a_bound(tmp_path: Path) -> None:
    def long(split: str, most: int) -> Iterator[tuple[dict[str, Any], int]]:
        for row in range(12):
            yield {"steps": np.full((1 + row % most, 2), row + 1.0)}, row % 2

    given: Callable[[], dict[str, Any]] = lambda: {s: long(s, most) for s, most in zip(SPLITS, (3, 2, 5), strict=True)}  # noqa: E731
    info = prepare(given(), tmp_path / "out")
    assert (info.modalities["steps"].kind, info.modalities["steps"].shape) == ("sequence", (5, 2))
    assert array(tmp_path / "out", "test", "steps_lengths").tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
    assert array(tmp_path / "out", "test", "steps")[1, :, 0].tolist() == [2, 2, 0, 0, 0]
    cut = prepare(given(), tmp_path / "cut", longest={"steps": 2})
    assert cut.modalities["steps"].shape == (2, 2)
    assert array(tmp_path / "cut", "test", "steps_lengths").tolist() == [1, 2, 2, 2, 2, 1, 2, 2, 2, 2, 1, 2]


def test_what_is_cut_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {split: [({"s": np.ones((1 + row % 3, 1)) * row}, row % 2) for row in range(12)] for split in SPLITS}
    drcli.prepare_from(given, tmp_path / "out", longest={"s": 2})
    assert "s: 12 of 36 samples had more than 2 steps and were cut" in capsys.readouterr().err


def test_token_ids_of_any_number_are_padded(tmp_path: Path) -> None:
    given = {split: [({"text": [row % 3] + [7] * (row % 4)}, row % 2) for row in range(12)] for split in SPLITS}
    options: dict[str, Any] = {"kinds": {"text": "tokens"}, "vocabularies": {"text": 10}, "pads": {"text": 9}}
    info = prepare(given, tmp_path / "out", **options)
    assert (info.modalities["text"].kind, info.modalities["text"].vocabulary) == ("tokens", 10)
    assert array(tmp_path / "out", "train", "text")[1].tolist() == [1, 7, 9, 9]


def test_a_sample_may_lack_a_modality(tmp_path: Path) -> None:
    given = both(y=None)
    for found in given.values():
        for row in (3, 5, 6, 8):
            found[row][0]["y"] = np.full(2, row)
        del found[0][0]["y"]
    info = prepare(given, tmp_path / "out")
    assert info.modalities["y"].masked
    assert np.flatnonzero(array(tmp_path / "out", "train", "y_present")).tolist() == [3, 5, 6, 8]
    assert array(tmp_path / "out", "train", "y")[:6, 0].tolist() == [0, 0, 0, 3, 0, 5]


def test_pictures_of_pillow_have_their_channels_first(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (12, 6, 5, 3)).astype("uint8")
    given = {
        split: [
            ({"colour": Image.fromarray(x), "grey": Image.fromarray(x[..., 0])}, row % 2)
            for row, x in enumerate(pixels)
        ]
        for split in SPLITS
    }
    info = prepare(given, tmp_path / "out")
    assert {m: spec.shape for m, spec in info.modalities.items()} == {"colour": (3, 6, 5), "grey": (1, 6, 5)}
    np.testing.assert_array_equal(array(tmp_path / "out", "val", "colour")[4], np.moveaxis(pixels[4], -1, 0))


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    """A sample is gone before the next but one is there, and 6.5 MB of them take less than the half."""
    alive: set[int] = set()
    most = 0

    class Big(np.ndarray[Any, Any]):
        pass

    def big(count: int) -> Iterator[tuple[dict[str, Any], int]]:
        nonlocal most
        for row in range(count):
            x = np.full((1, 64, 64), row % 7, "float32").view(Big)
            alive.add(row)
            weakref.finalize(x, alive.discard, row)
            most = max(most, len(alive))
            yield {"x": x}, row % 2

    peaks: list[int] = []

    def read_back(root: Path) -> DatasetInfo:
        """The last step, which asks for a fixed 64 MB."""
        peaks.append(tracemalloc.get_traced_memory()[1])
        return read_info(root)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("data_prep.sources.staged.CHUNK_BYTES", "data_prep.writing.statistics._CHUNK_BYTES"):
            patch.setattr(module, 2**17)
        prepare({"train": big(20), "val": big(20), "test": big(20)}, tmp_path / "first")  # imports what it needs
        patch.setattr("data_prep.writing.writer.read_info", read_back)
        tracemalloc.start()
        prepare({"train": big(400), "val": big(20), "test": big(20)}, tmp_path / "out")
        tracemalloc.stop()
    assert most <= 2
    assert peaks[0] < 3 * 2**20 < 400 * 64 * 64 * 4


def test_val_is_drawn_from_train_and_a_limit_is_kept(tmp_path: Path) -> None:
    given = both()
    del given["val"]
    info = prepare(given, tmp_path / "out", val_share=0.5, limit=20)
    assert info.rows == {"train": 5, "val": 5, "test": 10}
    assert {name.partition("-")[0] for name in ids(tmp_path / "out", "val")} == {"train"}


def test_a_version_says_that_nothing_need_be_read(tmp_path: Path) -> None:
    first = prepare(both(), tmp_path / "out", version="1")
    unread: dict[str, Any] = dict.fromkeys(SPLITS, iter(()))
    assert prepare(unread, tmp_path / "out", version="1") == first
    with pytest.raises(DataError, match=r'another prepared dataset \(version: "1" in the folder, "2" requested\)'):
        prepare(unread, tmp_path / "out", version="2")
    with pytest.raises(DataError, match=r'kinds: unset in the folder, \{"x": "vector"\} requested'):
        prepare(unread, tmp_path / "out", version="1", kinds={"x": "vector"})
    with pytest.raises(DataError, match="holds a prepared dataset; fresh=True replaces it, and a `version`"):
        prepare(both(), tmp_path / "out")
    assert prepare(both(count=14), tmp_path / "out", fresh=True).rows["test"] == 14


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "no pair": (lambda: [np.ones(3)], "split train, sample 0: it is ndarray; it must be a pair: {modality: array} and"),
    "a batch": (
        lambda: [({"x": np.ones((4, 3))}, torch.zeros(4))],
        "sample 0: its label has the shape (4,); give samples, not batches of a DataLoader",
    ),
    "no label": (lambda: [({"x": np.ones(3)}, None)], "sample 0: its label is NoneType; it must be an integer or text"),
    "other shape": (
        lambda: [*vectors("train"), ({"x": np.ones(4)}, 0)],
        "sample 12: 'x' has the shape (4,), samples before it (3,); make them the same; sequences",
    ),
    "NaN": (lambda: [({"x": [1.0, float("nan")]}, 0)], "sample 0: 'x' has values that are NaN, infinite or beyond"),
    "later floats": (
        lambda: [({"x": [1, 2]}, 0), ({"x": [0.5, 2]}, 1)],
        "sample 1: 'x' is float64, samples before it int64; convert all to one type",
    ),
    "text": (lambda: [({"x": "cat"}, 0)], "sample 0: 'x' has the type <U3; a modality holds real numbers"),
    "an object": (lambda: [({"x": object()}, 0)], "sample 0: 'x' is object, which is no array of numbers"),
    "a name": (lambda: [({"../x": np.ones(2)}, 0)], "sample 0: '../x' has no name for a modality"),
    "labels": (lambda: [({"labels": np.ones(2)}, 0)], "sample 0: 'labels' has no name for a modality"),
    "nothing": (list, "split train: has no samples; a generator gives them once only"),
    "one class": (lambda: [({"x": np.arange(2)}, 1)], "split train: 'labels' has one class only (1)"),
    "two types": (
        lambda: [({"x": np.arange(2)}, 1), ({"x": np.arange(2)}, "a")],
        "labels are partly numbers and partly",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sample_is_refused_in_one_message_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    given, message = BAD[case]
    with pytest.raises(DataError) as caught:
        prepare({"train": given(), "test": [({"x": np.arange(2)}, 1)]}, tmp_path / "out")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ({"train": vectors("train")}, {}, "drcli.prepare_from: split 'test' is missing (there: train)"),
        ({**both(), "dev": vectors("dev")}, {}, "drcli.prepare_from: 'dev' is no split; known: train, val, test"),
        ({**both(), "test": vectors("test", y=np.ones(1))}, {}, "split test, sample 0: 'y' is in no sample of train"),
        (both(), {"kinds": {"y": "vector"}}, "kinds names 'y', which train lacks"),
        (both(), {"kinds": {"x": "cube"}}, "kinds.x"),
        (both(), {"longest": {"x": 0}}, "longest.x"),
        (both(), {"classes": ["a"]}, "split train, sample 1: label 1 is none of the 1 classes"),
        (both(), {"limit": 0}, "limit = 0: must be at least 1"),
        (both(), {"val_share": 2}, "val_share"),
    ],
)
def test_what_cannot_be_prepared_is_refused(
    tmp_path: Path, given: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DrcliError) as caught:
        prepare(given, tmp_path / "out", **options)
    assert message in str(caught.value)
    assert isinstance(caught.value, DataError | UsageError)


def test_a_generator_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Any]:
        yield from vectors("train")
        raise ZeroDivisionError("of the generator")

    with pytest.raises(ZeroDivisionError):
        prepare({"train": failing(), "test": vectors("test")}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_takes_it_without_settings(tmp_path: Path) -> None:
    prepare(both(), tmp_path / "out")
    recipe = load_recipe(find_recipe("arrays"), [f"dataset.root={tmp_path / 'out'}"])
    assert open_dataset(tmp_path / "out", name="arrays", settings=prepare_settings(recipe)).info.classes == ("0", "1")


def test_a_dataset_from_before_a_setting_is_still_the_requested_one(tmp_path: Path) -> None:
    """An earlier drcli wrote no `columns`, `label` and `longest`: what it did is what their defaults do."""
    import json

    from drcli.data.format import _digest

    source = write(tmp_path / "in")
    info = prepare_files(source, tmp_path / "out")
    raw = json.loads((tmp_path / "out" / "dataset.json").read_text())
    for key in ("columns", "label", "longest", "seal"):
        raw.get("settings", {}).pop(key, None)
    raw.pop("seal")
    (tmp_path / "out" / "dataset.json").write_text(json.dumps({**raw, "seal": _digest(raw)}))
    assert prepare_files(source, tmp_path / "out").sha256 == info.sha256
    assert open_dataset(tmp_path / "out", settings=dict(info.settings)).info.sha256 == info.sha256
    with pytest.raises(DataError, match='label: "label" in the folder, "class" requested'):
        open_dataset(tmp_path / "out", settings={**info.settings, "label": "class"})
