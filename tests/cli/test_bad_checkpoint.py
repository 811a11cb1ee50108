"""Checkpoints that are not what they should be: refused by every command, and nothing of them runs."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli import checkpoint
from drcli.files import write_atomic

COMMANDS = ("eval", "diagnose")


class Payload:
    """Pickles into a call that creates a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.victim),)


def sealed(state: Any) -> bytes:
    stream = io.BytesIO()
    checkpoint.write_sealed(stream, state)
    return stream.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; use another checkpoint of the run, or train again"),
        (b"epoch,loss\n0,1.2\n", "not a checkpoint of drcli; give a checkpoint.pt or last.pt"),
        (b"\x80\x04\x95", "not a checkpoint of drcli; give a checkpoint.pt or last.pt"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    command: str, content: bytes, message: str, refused: Refused, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    assert refused(command, path, code=3).startswith(f"{path}: {message}")
    assert path.read_bytes() == content


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_checkpoint_and_a_folder_are_refused(command: str, refused: Refused, tmp_path: Path) -> None:
    missing = tmp_path / "none.pt"
    remedy = "give the checkpoint.pt or last.pt of a run directory"
    absent, folder = (refused(command, path, code=3) for path in (missing, tmp_path))
    assert absent == f"{missing}: cannot be read (No such file or directory); {remedy}\n"
    assert folder == (
        f"{tmp_path}: a folder without a run (recipe.yaml is missing); give a run directory, or the checkpoint.pt in "
        "one\n"
    )


@pytest.mark.parametrize("kept", [1, 1000, -1])
def test_a_truncated_checkpoint_is_refused(kept: int, refused: Refused, run_copy: Path) -> None:
    path = run_copy / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:kept])
    message = refused("eval", path, code=3)
    assert message.startswith(f"{path}: ")
    assert "not a checkpoint of drcli" in message or "truncated" in message


@pytest.mark.parametrize("position", [0, 3, 40, 0.3, 0.7, -200, -140, -78, -77, -66, -65, -64, -2, -1])
def test_a_flipped_bit_is_found_wherever_it_is(position: float, refused: Refused, run_copy: Path) -> None:
    path = run_copy / "checkpoint.pt"
    data = bytearray(path.read_bytes())
    data[int(position * len(data)) if isinstance(position, float) else position] ^= 1
    path.write_bytes(data)
    message = refused("eval", path, code=3)
    assert message.startswith(f"{path}: ")
    assert any(word in message for word in ("damaged", "truncated", "not a checkpoint of drcli"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(command: str, refused: Refused, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "checkpoint.pt"
    path.write_bytes(pickle.dumps({"checkpoint_version": 1, "model": Payload(victim)}))
    assert "not a checkpoint of drcli" in refused(command, path, code=3)
    assert not victim.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_code_under_a_valid_seal_is_refused_and_does_not_run(command: str, refused: Refused, tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "checkpoint.pt"
    path.write_bytes(sealed({"checkpoint_version": 1, "model": Payload(victim)}))
    assert refused(command, path, code=3) == f"{path}: refused, it holds more than tensors and plain values\n"
    assert not victim.exists()


def test_the_payload_of_these_tests_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "victim")))
    assert (tmp_path / "victim").exists()


def test_a_checkpoint_of_another_program_or_version_is_refused(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": torch.zeros(2)}, path)
    message = refused("eval", path, code=3)
    assert "not written by drcli (its checksum is missing)" in message
    assert "a model that drcli did not train, save the features as .npz: `drcli diagnose FEATURES.npz`" in message
    path.write_bytes(sealed({"checkpoint_version": 99}))
    assert "checkpoint_version is 99, this drcli reads 1; train again" in refused("eval", path, code=3)
    path.write_bytes(sealed([1, 2]))
    assert refused("eval", path, code=3) == f"{path}: not a checkpoint of drcli\n"


@pytest.mark.parametrize(
    "lacking",
    [
        *("recipe", "modalities", "dataset_fingerprint", "model", "extras"),
        "epoch",
    ],
)
def test_a_checkpoint_that_lacks_a_part_is_refused(lacking: str, refused: Refused, run_copy: Path) -> None:
    path = run_copy / "checkpoint.pt"
    checkpoint.save(path, {k: v for k, v in checkpoint.load(path).items() if k != lacking})
    assert str(path) in refused("eval", path, code=3)


def test_weights_of_another_model_are_refused(refused: Refused, run_copy: Path) -> None:
    path = run_copy / "checkpoint.pt"
    state = checkpoint.load(path)
    state["recipe"]["modalities"]["audio"] = {"backbone": "resnet_small", "width": 2}
    checkpoint.save(path, state)
    said = refused("eval", path, code=3)
    assert said.startswith(f"{path}: model does not fit the model of its recipe: 'encoders.audio.")
    assert said.endswith("; use another checkpoint of the run\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_contents_under_a_valid_seal_that_are_not_a_run_s_are_one_message(
    command: str, refused: Refused, run_copy: Path
) -> None:
    path = run_copy / "checkpoint.pt"
    state = checkpoint.load(path)
    weights = next(iter(state["model"]))
    wrong: dict[str, dict[str, Any]] = {
        "epoch is x, not a whole number": {"epoch": "x"},
        'modalities is "a list", not a list of modalities of its recipe': {"modalities": ["smell"]},
        "selected is null, not a mapping": {"selected": None},
        'model is "a list", not a mapping': {"model": [1]},
        "(its recipe): ": {"recipe": {**state["recipe"], "training": 3}},
        f"{weights!r} has values that are NaN": {
            "model": {**state["model"], weights: state["model"][weights] * torch.nan}
        },
    }
    for said, change in wrong.items():
        checkpoint.save(path, {**state, **change})
        message = refused(command, path, code=3)
        assert message.startswith(f"{path}")
        assert said in message


def test_a_recipe_that_claims_a_huge_model_takes_no_memory(refused: Refused, run_copy: Path) -> None:
    """An encoder of width 2^20 has 10^14 weights; they are counted before memory is taken for them."""
    path = run_copy / "checkpoint.pt"
    state = checkpoint.load(path)
    state["recipe"]["modalities"]["audio"]["width"] = 2**20
    checkpoint.save(path, state)
    said = refused("eval", path, code=3)
    assert "its recipe describes a larger model than its " in said or "width" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_other_data_than_the_checkpoints_is_refused(
    command: str, refused: Refused, drcli: Drcli, finished: Path, dataset_copy: Path, recipe_file: RecipeFile
) -> None:
    other = dataset_copy.parent / "other"
    drcli("prepare", recipe_file(), "dataset.prepare.seed=1", "--out", other)
    path = finished / "checkpoint.pt"
    message = refused(command, path, f"dataset.root={other}", code=3)
    assert message.startswith(f"{other}: prepared with other settings")
    assert "seed: 1 in the folder, 0 requested" in message


def test_data_of_the_same_settings_with_other_contents_is_refused(
    refused: Refused, run_copy: Path, dataset_copy: Path
) -> None:
    path = run_copy / "checkpoint.pt"
    checkpoint.save(path, {**checkpoint.load(path), "dataset_fingerprint": "0" * 64})
    message = refused("eval", path, f"dataset.root={dataset_copy}", code=3)
    assert message.startswith(f"{dataset_copy}: not the data that {path} was trained on")
    assert "dataset.root=DIR" in message


def test_a_last_pt_of_another_run_is_refused_when_training_goes_on(
    refused: Refused, drcli: Drcli, run_copy: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe, out = recipe_file(), tmp_path / "runs"
    drcli("train", recipe, "training.epochs=1", "--seeds", "5", "--out", out)
    folder = out / "toy" / "joint" / "seed5"
    (folder / "summary.json").unlink()
    write_atomic(folder / "last.pt", (run_copy / "last.pt").read_bytes())
    before = tree(folder)
    message = refused("train", recipe, "training.epochs=1", "--seeds", "5", "--out", out, code=3)
    assert message.startswith(f"{folder / 'last.pt'}: ")
    assert "seeds" in message
    assert "--fresh" in message
    assert {**tree(folder), **before} == tree(folder)  # nothing is lost
    assert set(tree(folder)) - set(before) == {"failure.json"}
    drcli("train", recipe, "training.epochs=1", "--seeds", "5", "--out", out, "--fresh")


@pytest.mark.parametrize("name", ["last.pt", "checkpoint.pt"])
def test_a_damaged_checkpoint_stops_a_run_that_goes_on(
    name: str, drcli: Drcli, run_copy: Path, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "toy" / "joint" / "seed0"
    folder.parent.mkdir(parents=True)
    run_copy.rename(folder)
    (folder / "summary.json").unlink()
    (folder / name).write_bytes((folder / name).read_bytes()[:-10])
    before = tree(folder)
    result = drcli("train", recipe_file(), "--out", tmp_path / "runs", code=3)
    assert f"drcli: {folder / name}: truncated" in result.stderr
    assert result.stdout == ""
    assert not (folder / "summary.json").exists()
    assert (folder / name).read_bytes()[:4] == b"PK\x03\x04"
    assert {k: v for k, v in tree(folder).items() if k in before} == before
    drcli("train", recipe_file(), "--out", tmp_path / "runs", "--fresh")
