"""Prepared datasets that are missing, damaged or not the ones asked for: refused before anything is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli.data import format as layout
from drcli.data.format import file_sha256


@pytest.fixture
def refused_data(refused: Refused, recipe_file: RecipeFile, dataset_copy: Path, tmp_path: Path) -> Callable[..., str]:
    """Trains on the damaged copy; returns the message of the refusal."""

    def run(*overrides: str) -> str:
        recipe = recipe_file(dataset={"name": "toy", "root": str(dataset_copy)})
        before = tree(dataset_copy)
        message = refused("train", recipe, *overrides, "--out", tmp_path / "runs", code=3)
        assert not (tmp_path / "runs").exists()
        assert tree(dataset_copy) == before
        return message

    return run


def change_info(root: Path, *, is_sealed: bool = True, **fields: Any) -> None:
    """Change dataset.json, with a seal that fits or as somebody with an editor would."""
    path = root / "dataset.json"
    values = {**json.loads(path.read_text()), **fields}
    seal = values.pop("seal")
    path.write_text(json.dumps({**values, "seal": layout._digest(values) if is_sealed else seal}))


def renormalise(root: Path, *, is_sealed: bool, version: int = 2) -> None:
    """Move the mean of every modality by 3 and multiply its standard deviation by 5."""
    found = json.loads((root / "dataset.json").read_text())["modalities"]
    changed = {m: {**spec, "mean": [spec["mean"][0] + 3], "std": [5 * spec["std"][0]]} for m, spec in found.items()}
    change_info(root, is_sealed=is_sealed, modalities=changed, format_version=version)


@pytest.mark.parametrize("command", ["train", "eval", "diagnose"])
def test_an_altered_dataset_json_is_refused_by_every_command(
    command: str, refused: Refused, recipe_file: RecipeFile, finished: Path, dataset_copy: Path, tmp_path: Path
) -> None:
    renormalise(dataset_copy, is_sealed=False)
    target = recipe_file() if command == "train" else finished / "checkpoint.pt"
    out = ("--out", tmp_path / "runs") if command == "train" else ()
    assert refused(command, target, f"dataset.root={dataset_copy}", *out, code=3) == (
        f"{dataset_copy / 'dataset.json'}: was altered since it was prepared; "
        "prepare the dataset again with `drcli prepare --fresh`\n"
    )


@pytest.mark.parametrize("command", ["eval", "diagnose"])
@pytest.mark.parametrize("version", [1, 2])
def test_another_normalisation_is_other_data_than_that_of_the_checkpoint(
    command: str, version: int, refused: Refused, finished: Path, dataset_copy: Path
) -> None:
    renormalise(dataset_copy, is_sealed=True, version=version)
    message = refused(command, finished / "checkpoint.pt", f"dataset.root={dataset_copy}", code=3)
    assert message.startswith(f"{dataset_copy}: not the data that ")
    assert "other arrays, splits or normalisation" in message


def test_a_dataset_of_the_former_format_version_still_serves_its_checkpoints(
    drcli: Drcli, finished: Path, dataset_copy: Path
) -> None:
    change_info(dataset_copy, format_version=1)
    arguments = ("eval", finished / "checkpoint.pt", "--json")
    found, expected = (json.loads(drcli(*arguments, *more).stdout) for more in ((f"dataset.root={dataset_copy}",), ()))
    assert found == expected


@pytest.mark.parametrize("std", [0.0, 1e-300, -1.0, float("nan")])
def test_a_wrong_standard_deviation_is_named_and_no_learning_rate(
    std: float, refused_data: Callable[..., str], dataset_copy: Path
) -> None:
    spec = json.loads((dataset_copy / "dataset.json").read_text())["modalities"]
    change_info(dataset_copy, modalities={**spec, "visual": {**spec["visual"], "std": [std]}})
    message = refused_data()
    assert f"dataset.json: damaged (modalities.visual.std is {std!r}; it must be finite and positive" in message
    assert "prepare the dataset again with" in message
    assert "lr" not in message


def relabel(root: Path, split: str, labels: list[int]) -> None:
    """Give a split other labels, and dataset.json their digest: damage that no checksum shows."""
    path = root / split / "labels.npy"
    np.save(path, np.array(labels, dtype=np.int64))
    digests = json.loads((root / "dataset.json").read_text())["sha256"]
    change_info(root, sha256={**digests, f"{split}/labels.npy": file_sha256(path)})


def test_a_dataset_that_needs_a_download_and_is_not_there_names_the_command(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused("train", "avmnist", code=3) == (
        "data/avmnist: no prepared dataset here (dataset.json is missing); "
        "run `drcli prepare avmnist --source DIR dataset.prepare.audio_snr_db=0.0 --out data/avmnist`\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_data_prepared_with_other_settings_is_refused_with_the_differences(
    refused_data: Callable[..., str], dataset_copy: Path
) -> None:
    message = refused_data("dataset.prepare.draws=3", "dataset.prepare.seed=7")
    assert message.startswith(f"{dataset_copy}: prepared with other settings than dataset.prepare asks for")
    assert "draws: 2 in the folder, 3 requested" in message
    assert "seed: 0 in the folder, 7 requested" in message
    assert "prepare again with --fresh" in message


def test_data_of_another_format_version_is_refused(refused_data: Callable[..., str], dataset_copy: Path) -> None:
    change_info(dataset_copy, format_version=99)
    message = refused_data()
    path = dataset_copy / "dataset.json"
    assert message.startswith(f"{path}: format_version is 99, this drcli reads 1, 2, 3, 4, 5 and 6")
    assert "drcli prepare" in message


def test_data_of_another_dataset_is_refused(refused_data: Callable[..., str], dataset_copy: Path) -> None:
    change_info(dataset_copy, name="other")
    assert f"{dataset_copy}: holds dataset 'other', the recipe asks for 'toy'" in refused_data()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format_version": 1}', b"[" * 100_000])
def test_a_damaged_dataset_json_is_refused(
    content: bytes, refused_data: Callable[..., str], dataset_copy: Path
) -> None:
    (dataset_copy / "dataset.json").write_bytes(content)
    message = refused_data()
    assert message.startswith(str(dataset_copy / "dataset.json"))
    assert "prepare the dataset again" in message


@pytest.mark.parametrize("name", ["train/audio.npy", "val/visual.npy", "test/text.npy", "train/labels.npy"])
@pytest.mark.parametrize("position", [0, 130, -1])
def test_an_altered_array_is_refused(
    name: str, position: int, refused_data: Callable[..., str], dataset_copy: Path
) -> None:
    data = bytearray((dataset_copy / name).read_bytes())
    data[position] ^= 1
    (dataset_copy / name).write_bytes(data)
    message = refused_data()
    assert f"{dataset_copy}: {name} was truncated or altered since it was prepared" in message
    assert f"`drcli prepare toy --out {dataset_copy} --fresh`" in message


def test_truncated_and_missing_files_are_named_together(refused_data: Callable[..., str], dataset_copy: Path) -> None:
    truncated = dataset_copy / "train" / "audio.npy"
    truncated.write_bytes(truncated.read_bytes()[:-100])
    (dataset_copy / "val" / "ids.txt").unlink()
    message = refused_data()
    assert "train/audio.npy was truncated or altered since it was prepared" in message
    assert "val/ids.txt is missing" in message


def test_fewer_samples_than_classes_are_refused(refused: Refused, recipe_file: RecipeFile, tmp_path: Path) -> None:
    root = tmp_path / "small"
    overrides = (f"dataset.root={root}", "dataset.prepare.rows=2")
    message = refused("train", recipe_file(), *overrides, "--out", tmp_path / "runs", code=3)
    assert message.startswith(f"{root}: split train has 2 samples for 3 classes")
    assert "--limit" in message
    assert not (tmp_path / "runs").exists()


def test_a_class_absent_from_train_is_refused(refused_data: Callable[..., str], dataset_copy: Path) -> None:
    relabel(dataset_copy, "train", [0, 2] * 30)
    assert refused_data() == f"{dataset_copy}: class b is absent from train; prepare with a larger --limit\n"


def test_a_class_absent_from_val_is_a_warning(
    drcli: Drcli, recipe_file: RecipeFile, dataset_copy: Path, tmp_path: Path
) -> None:
    relabel(dataset_copy, "val", [0, 2] * 24)
    recipe = recipe_file(dataset={"name": "toy", "root": str(dataset_copy)})
    said = drcli("train", recipe, "training.epochs=1", "--out", tmp_path / "runs").stderr
    assert "class b is absent from val" in " ".join(said.split())


def test_labels_out_of_range_are_refused(refused_data: Callable[..., str], dataset_copy: Path) -> None:
    relabel(dataset_copy, "train", [0, 1, 3] * 20)
    assert "labels run from 0 to 3, allowed are 0 to 2" in refused_data()


def test_a_modality_that_the_data_lacks_is_refused(refused: Refused, recipe_file: RecipeFile, tmp_path: Path) -> None:
    recipe = recipe_file(("audio", "smell"))
    message = refused("train", recipe, "--out", tmp_path / "runs", code=2)
    assert message.startswith("modalities.smell: dataset toy has no such modality; it has audio, ")


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_a_checkpoint_without_its_data_is_refused(
    command: str, refused: Refused, finished: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    message = refused(command, finished / "checkpoint.pt", f"dataset.root={nowhere}", code=3)
    assert message.startswith(
        f"{nowhere}: no prepared dataset here (dataset.json is missing); name its folder with dataset.root=DIR, or run "
    )
    assert list(tmp_path.iterdir()) == []
