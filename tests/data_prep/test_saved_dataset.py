"""`drcli prepare arrays --source` of a folder that `save_to_disk` of Hugging Face's `datasets` wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arrays_tree import ids, prepare, write
from support.command_line import invoke, tree

from data_prep.arrays import Arrays
from drcli.data.format import SPLITS, DatasetInfo
from drcli.errors import DataError, DrcliError, UsageError

NAMES = {"train": "train", "val": "validation", "test": "test"}
ROWS = {"train": 12, "val": 6, "test": 8}


def test_without_the_package_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"in: a saved dataset of Hugging Face; run pip install 'drcli\[datasets\]'"):
        prepare(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize(("key", "value"), [("columns", {"audio": "a"}), ("longest", {"text": 2})])
def test_settings_of_a_saved_dataset_are_refused_for_files(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"dataset\.prepare\.{key}: only for a saved dataset of Hugging Face; "):
        prepare(write(tmp_path / "in"), tmp_path / "out", **{key: value})


def pictures(split: str) -> Any:
    return np.random.default_rng(len(split)).integers(0, 255, (ROWS[split], 6, 5, 3)).astype("uint8")


def column(split: str, name: str) -> list[Any]:
    """The values of a column, of which some sequences are of other lengths, and one vector is missing."""
    draw, count = np.random.default_rng(len(split)), ROWS[split]
    if name == "mel":
        return list(draw.normal(size=(count, 1, 4, 3)).astype("float32"))
    if name == "steps":
        return [draw.normal(size=(1 + row % 3, 2)).tolist() for row in range(count)]
    if name == "ids":
        return [[row % 4] * (1 + row % 2) for row in range(count)]
    if name == "code":
        return [None if row == 2 else [row, 255 - row] for row in range(count)]
    return [row % 2 for row in range(count)]


def features(datasets: Any) -> dict[str, Any]:
    value, many = datasets.Value, datasets.List
    return {
        "mel": datasets.Array3D((1, 4, 3), "float32"),
        "steps": many(many(value("float64"), 2)),
        "ids": many(value("int32")),
        "code": many(value("uint8"), 2),
        "label": datasets.ClassLabel(names=["zebra", "ape"]),
    }


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("datasets")
    found.disable_progress_bars()
    return found


def save(datasets: Any, folder: Path, *, without: str = "", **more: tuple[Any, Any]) -> Path:
    """Save all columns, and more: a type and a value each."""
    types = {**features(datasets), **{name: kind for name, (kind, _) in more.items()}}
    parts = {}
    for split, name in NAMES.items():
        found = {key: column(split, key) for key in features(datasets)}
        found |= {key: [value] * ROWS[split] for key, (_, value) in more.items()}
        if split != without:
            parts[name] = datasets.Dataset.from_dict(found, features=datasets.Features(types))
    datasets.DatasetDict(parts).save_to_disk(str(folder))
    return folder


TOKENS: dict[str, Any] = {"kinds": {"ids": "tokens"}}


def stored(out: Path, split: str, name: str) -> Any:
    return np.load(out / split / f"{name}.npy")


def check(info: DatasetInfo, out: Path) -> None:
    assert info.classes == ("zebra", "ape")  # in the order of the ClassLabel
    assert info.rows == ROWS
    assert {m: (spec.kind, spec.shape, spec.dtype) for m, spec in info.modalities.items()} == {
        "mel": ("array", (1, 4, 3), "float32"),
        "steps": ("sequence", (3, 2), "float32"),
        "ids": ("tokens", (2,), "int32"),
        "code": ("vector", (2,), "uint8"),
    }
    for split in SPLITS:
        np.testing.assert_array_equal(stored(out, split, "mel"), np.stack(column(split, "mel")))
        assert stored(out, split, "labels").tolist() == column(split, "label")
        lengths = stored(out, split, "steps_lengths").tolist()
        assert lengths == [len(steps) for steps in column(split, "steps")]
        for row, steps in enumerate(column(split, "steps")):
            np.testing.assert_allclose(stored(out, split, "steps")[row, : lengths[row]], steps, rtol=1e-6)
        assert stored(out, split, "code")[3].tolist() == [3, 252]
        assert np.flatnonzero(~stored(out, split, "code_present")).tolist() == [2]
    assert ids(out, "val")[0] == "val-000000"


@pytest.mark.slow
def test_columns_are_modalities_and_class_names_keep_their_order(datasets: Any, tmp_path: Path) -> None:
    source = save(datasets, tmp_path / "in")
    check(prepare(source, tmp_path / "out", **TOKENS), tmp_path / "out")
    prepare(source, tmp_path / "again", **TOKENS)
    assert tree(tmp_path / "again") == tree(tmp_path / "out")
    other = save(datasets, tmp_path / "other", without="val")
    info = prepare(other, tmp_path / "drawn", val_share=0.5, **TOKENS)
    assert info.rows == {"train": 6, "val": 6, "test": 8}
    with pytest.raises(DataError, match="contents of --source"):
        prepare(other, tmp_path / "out", **TOKENS)


@pytest.mark.slow
def test_chosen_columns_train(datasets: Any, tmp_path: Path) -> None:
    source = save(datasets, tmp_path / "in", kind=(datasets.Value("string"), "x"))
    options = (
        "dataset.prepare.columns={sound: mel, look: steps}",
        "dataset.prepare.longest={look: 2}",
        "modalities={sound: {backbone: resnet_small, width: 4}, look: {backbone: transformer, dim: 10}}",
        f"dataset.root={tmp_path / 'out'}",
    )
    done = json.loads(invoke("prepare", "arrays", "--source", source, *options, "--json").stdout)
    assert done["modalities"]["look"]["shape"] == [2, 2]
    assert done["source"]["samples"]
    invoke("train", "arrays", *options, "training.epochs=1", "--method", "joint", "--seeds", 0, "--out", tmp_path)


@pytest.mark.slow
def test_pictures_are_decoded_and_have_their_channels_first(datasets: Any, tmp_path: Path) -> None:
    parts = {}
    for split, name in NAMES.items():
        found = {"picture": list(pictures(split)), "label": [("b", "a")[row % 2] for row in range(ROWS[split])]}
        kinds = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("string")})
        parts[name] = datasets.Dataset.from_dict(found, features=kinds)
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "in"))
    info = prepare(tmp_path / "in", tmp_path / "out")
    assert (info.classes, info.modalities["picture"].dtype) == (("a", "b"), "uint8")
    np.testing.assert_array_equal(stored(tmp_path / "out", "val", "picture"), np.moveaxis(pictures("val"), -1, 1))


@pytest.mark.slow
def test_what_is_no_array_is_refused_with_what_to_do(datasets: Any, tmp_path: Path) -> None:
    source = save(datasets, tmp_path / "in", words=(datasets.Value("string"), "a cat"))
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (source, {}, "column 'words' is string, which is no array; tokenise it to lists of ids with `map`, and set"),
        (source, {"columns": {"a": "mell"}}, "has no column 'mell'; known: mel, steps, ids, code, label, words. Did"),
        (source, {"label": "class", "columns": {"a": "mel"}}, "has no column 'class'"),
        (source, {"label": "mel", "columns": {"a": "ids"}}, "split train, sample 0: its label is list; it must be an"),
    ]
    said = save(datasets, tmp_path / "said", voice=(datasets.Audio(), None))
    cases.append((said, {}, "column 'voice' is Audio, which is no array; decode it to numbers with `map`, such as"))
    sound = save(datasets, tmp_path / "sound")
    one = datasets.Dataset.from_dict({"x": [1], "label": [0]})
    one.save_to_disk(str(tmp_path / "one"))
    cases.append((tmp_path / "one", {}, "one: is one Dataset without splits; make them, and give the folder OUT: data"))
    datasets.DatasetDict({"train": one, "extra": one}).save_to_disk(str(tmp_path / "extra"))
    cases.append((tmp_path / "extra", {}, "'extra' is no split; known: train, test, validation"))
    datasets.DatasetDict({"train": one}).save_to_disk(str(tmp_path / "half"))
    cases.append((tmp_path / "half", {}, "split 'test' is missing (there: train)"))
    (sound / "test" / "data-00000-of-00001.arrow").write_bytes(b"not arrow")
    cases.append((sound, {}, "sound: cannot be read ("))
    for folder, settings, message in cases:
        with pytest.raises(DrcliError) as caught:
            Arrays(Arrays.Settings.model_validate(settings)).run(source=folder, out=tmp_path / "out")
        assert message in str(caught.value)
        assert not (tmp_path / "out").exists()
