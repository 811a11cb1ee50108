"""Masks of the dataset "arrays": which samples have a modality, from the .npz files to a trained model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from support.arrays_tree import SIZES, prepare, samples, write
from support.command_line import invoke, tree
from support.names import toy_names

from drcli.data.format import SPLITS, Contents, ModalityInfo, parse_contents, read_info
from drcli.data.prepared import open_dataset
from drcli.errors import DataError


@pytest.fixture(autouse=True)
def _same_torch() -> Iterator[None]:
    """A run in deterministic mode leaves torch as other tests expect it."""
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)


def mask_of(split: str, every: int = 3) -> NDArray[np.bool_]:
    return np.asarray(np.arange(SIZES[split]) % every != 0, dtype=np.bool_)


def masked(folder: Path, absent: float = np.nan) -> Path:
    """A source of which every third sample lacks audio, and every fourth text."""
    changed: dict[str, Any] = {}
    for split in SPLITS:
        given = samples(split)
        given["audio"][~mask_of(split)] = absent
        given["text"][~mask_of(split, 4)] = absent
        changed[split] = {
            "audio": given["audio"],
            "text": given["text"],
            "audio_present": mask_of(split),
            "text_present": mask_of(split, 4).astype(np.int64),
        }
    return write(folder, **changed)


def prepare_and_open(source: Path, out: Path) -> None:
    prepare(source, out)
    open_dataset(out)


def test_masks_are_stored_and_what_is_absent_is_zeros(tmp_path: Path) -> None:
    notes: list[str] = []
    info = prepare(masked(tmp_path / "in"), tmp_path / "out", note=notes.append)
    assert (info.format_version, read_info(tmp_path / "out").format_version) == (3, 3)
    assert {m: spec.masked for m, spec in info.modalities.items()} == {"audio": True, "visual": False, "text": True}
    assert notes[0] == "audio: array (C, H, W) = (1, 8, 8), stored as float32, of which samples may lack it"
    split = open_dataset(tmp_path / "out").split("test")
    assert {m: x.tolist() for m, x in split.present.items()} == {
        "audio": mask_of("test").tolist(),
        "text": mask_of("test", 4).tolist(),
    }
    audio = split.tensor("audio").numpy()
    assert not audio[~mask_of("test")].any()
    np.testing.assert_array_equal(audio[mask_of("test")], samples("test")["audio"][mask_of("test")])
    assert not split.lengths["text"].numpy()[~mask_of("test", 4)].any()


def test_statistics_are_those_of_the_samples_that_are_there(tmp_path: Path) -> None:
    found = prepare(masked(tmp_path / "in"), tmp_path / "out").modalities
    given = samples("train")
    there = given["audio"][mask_of("train")].astype(np.float64)
    assert found["audio"].mean == pytest.approx([there.mean()])
    assert found["audio"].std == pytest.approx([there.std()])
    steps = np.arange(4) < (given["text_lengths"] * mask_of("train", 4))[:, None]
    assert found["text"].mean == pytest.approx(given["text"].astype(np.float64)[steps].mean(axis=0))


def test_what_an_array_holds_of_absent_samples_does_not_matter(tmp_path: Path) -> None:
    for name, value in (("nan", np.nan), ("seven", 7.0)):
        prepare(masked(tmp_path / f"{name} in", value), tmp_path / name)
    found, other = (tree(tmp_path / name) for name in ("nan", "seven"))
    assert {k: v for k, v in found.items() if k != "dataset.json"} == {
        k: v for k, v in other.items() if k != "dataset.json"
    }
    assert read_info(tmp_path / "nan").fingerprint == read_info(tmp_path / "seven").fingerprint


def test_nan_without_a_mask_is_refused_and_the_mask_is_named(tmp_path: Path) -> None:
    audio = samples("train")["audio"]
    audio[4] = np.nan
    with pytest.raises(DataError, match=r"in row 4 first; replace them, .* or say in 'audio_present' \(N,\) which"):
        prepare(write(tmp_path / "in", train={"audio": audio}), tmp_path / "out")


def test_nan_in_a_sample_that_is_there_is_refused(tmp_path: Path) -> None:
    audio = samples("train")["audio"]
    audio[4] = np.nan
    source = masked(tmp_path / "in")
    contents = dict(np.load(source / "train.npz"))
    np.savez(source / "train.npz", **{**contents, "audio": audio})
    with pytest.raises(DataError, match="in row 4 first"):
        prepare(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"audio_present": np.full(30, 2)}, "'audio_present' has other values than 0 and 1"),
        (
            {"audio_present": np.zeros(30, bool)},
            "'audio_present' is false everywhere: no sample here has 'audio'; corr",
        ),
        ({"audio_present": np.ones((30, 1), bool)}, r"'audio_present' is bool \(30, 1\); it must be \(N,\) booleans"),
        ({"audio_present": np.ones(29, bool)}, "'audio_present' has 29 rows, 'labels' has 30"),
        ({"smell_present": np.ones(30, bool)}, "says which samples have 'smell', which is missing"),
        (
            {"visual_present": np.arange(30) > 0, "text_present": np.arange(30) > 0},
            "has row 0, which lacks every modality by their masks",
        ),
        ({"audio_present": np.isin(np.arange(30), (1, 2))}, "2 rows have the modality, for 3 classes"),
    ],
)
def test_masks_that_do_not_fit_are_refused(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    ones = {f"{m}_present": np.ones(1, bool) for m in ("visual", "smell") if f"{m}_present" in changed}
    source = masked(tmp_path / "in")
    for split in SPLITS:
        contents = dict(np.load(source / f"{split}.npz"))
        contents |= {name: np.ones(SIZES[split], bool) for name in ones}
        np.savez(source / f"{split}.npz", **(contents | (changed if split == "train" else {})))
    with pytest.raises(DataError, match=message):
        prepare_and_open(source, tmp_path / "out")


def test_a_file_without_the_mask_of_train_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "in", train={"audio_present": np.ones(30, bool)})
    with pytest.raises(DataError, match=r"array 'audio_present' is missing, but train\.npz has it; add it"):
        prepare(source, tmp_path / "out")


def test_datasets_without_masks_say_nothing_of_them(tmp_path: Path) -> None:
    info = prepare(write(tmp_path / "in"), tmp_path / "out")
    assert info.format_version == 2
    assert "masked" not in (tmp_path / "out" / "dataset.json").read_text()
    assert "masked" not in json.dumps(info.contents.to_dict())
    spec = ModalityInfo((1, 8, 8), "float32", (0.0,), (1.0,), masked=True)
    contents = Contents("arrays", ("a",), {"audio": spec})
    assert parse_contents(contents.to_dict()) == contents


def test_a_model_is_trained_evaluated_and_diagnosed(tmp_path: Path) -> None:
    prepare(masked(tmp_path / "in"), tmp_path / "out")
    recipe = {
        "name": "mine",
        "dataset": {"name": "arrays", "root": str(tmp_path / "out")},
        "modalities": {m: {"backbone": "tiny"} for m in ("audio", "visual")},
        "method": "joint",
        "methods": {"joint": {}, "unimodal": {}},
        "training": {"epochs": 1, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.05}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    run = tmp_path / "runs" / "mine" / "joint" / "seed0"
    with toy_names():
        invoke("train", tmp_path / "mine.yaml", "--out", tmp_path / "runs", "--device", "cpu")
        found = json.loads(invoke("eval", run, "--subsets", "all", "--missing", "visual=1", "--json").stdout)
        diagnosed = json.loads(invoke("diagnose", run, "--json").stdout)
    assert {name: one["n"] for name, one in found["subsets"].items()} == {
        "audio": 8,  # the four samples without audio have nothing then
        "visual": 12,
        "audio+visual": 12,
    }
    assert found["subsets"]["audio+visual"]["accuracy"] == found["accuracy"]
    assert found["missing"]["visual"]["1"]["n"] == 12
    assert diagnosed["modalities"]["audio"]["num_train"] == 20
    assert diagnosed["modalities"]["visual"]["num_train"] == 30
