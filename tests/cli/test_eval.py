"""`drcli eval`: the contract of its output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli import checkpoint


def test_test_scores_equal_those_of_the_run(drcli: Drcli, finished: Path) -> None:
    before = tree(finished)
    path = finished / "checkpoint.pt"
    found = json.loads(drcli("eval", path, "--json").stdout)
    assert {"checkpoint", "split", "n", "accuracy", "macro_f1", "unimodal"} <= set(found)
    stored = json.loads((finished / "summary.json").read_text())
    assert (found["checkpoint"], found["split"]) == (str(path), "test")
    assert {key: found[key] for key in ("accuracy", "macro_f1", "n")} == stored["test"]
    assert found["unimodal"] == stored["unimodal"]
    assert found["fused_probe"] == stored["fused_probe"]
    assert tree(finished) == before


@pytest.mark.parametrize(("split", "n"), [("train", 60), ("val", 24), ("test", 30)])
def test_n_counts_the_samples_of_the_split(split: str, n: int, drcli: Drcli, finished: Path) -> None:
    found = json.loads(drcli("eval", finished / "last.pt", "--split", split, "--json").stdout)
    assert (found["split"], found["n"], type(found["n"])) == (split, n, int)
    assert found["epoch"] == 1
    assert 0 <= found["accuracy"] <= 1
    assert 0 <= found["macro_f1"] <= 1
    assert {m: list(probe) for m, probe in found["unimodal"].items()} == {
        "audio": ["probe_accuracy"],
        "visual": ["probe_accuracy"],
    }


def test_accuracy_on_val_is_the_one_the_epoch_was_selected_by(drcli: Drcli, finished: Path) -> None:
    found = json.loads(drcli("eval", finished / "checkpoint.pt", "--split", "val", "--json").stdout)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert found["accuracy"] == lines[found["epoch"]]["val"]["accuracy"]


def test_the_table_holds_the_scores(drcli: Drcli, finished: Path) -> None:
    shown = drcli("eval", finished / "checkpoint.pt").stdout
    for word in (
        "accuracy",
        "macro-F1",
        "samples",
        "audio linear probe",
        "visual linear probe",
        "fused linear probe",
        " %",
    ):
        assert word in shown


def test_a_last_epoch_that_was_not_selected_is_not_said_to_be(drcli: Drcli, run_copy: Path) -> None:
    path = run_copy / "last.pt"
    state = checkpoint.load(path)
    checkpoint.save(path, {**state, "selected": {"epoch": 0, "accuracy": 0.5}})
    found = json.loads(drcli("eval", path, "--json").stdout)
    assert (found["epoch"], found["selected_epoch"], found["selection"]) == (1, 0, "val")
    title = drcli("eval", path).stdout.splitlines()[0]
    assert title == f"{path} (epoch 1, the last one; epoch 0 was selected on val): split test"


def test_the_selected_epoch_is_said_to_be_selected(drcli: Drcli, finished: Path) -> None:
    path = finished / "checkpoint.pt"
    epoch = json.loads((finished / "summary.json").read_text())["selected_epoch"]
    found = json.loads(drcli("eval", path, "--json").stdout)
    assert (found["epoch"], found["selected_epoch"]) == (epoch, epoch)
    assert f"{path} (epoch {epoch}, selected on val): split test\n" in drcli("eval", path).stdout


def test_the_path_above_the_table_is_not_broken_in_a_narrow_window(
    drcli: Drcli, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    path = finished / "checkpoint.pt"
    assert len(str(path)) > 40
    for command in ("eval", "diagnose"):
        assert drcli(command, path).stdout.startswith(f"{path}")


def test_a_file_of_features_is_refused_with_the_command_that_takes_it(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    message = refused("eval", path, code=2)
    assert message == f"{path}: eval scores a checkpoint.pt or last.pt; `drcli diagnose` takes features\n"


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_a_moved_dataset_is_found_by_dataset_root(
    command: str, drcli: Drcli, refused: Refused, recipe_file: RecipeFile, dataset_copy: Path, tmp_path: Path
) -> None:
    recipe = recipe_file(dataset={"name": "toy", "root": str(dataset_copy)})
    drcli("train", recipe, "training.epochs=1", "--out", tmp_path / "runs")
    path, moved = tmp_path / "runs/toy/joint/seed0/checkpoint.pt", tmp_path / "moved"
    before = drcli(command, path, "--json").stdout
    dataset_copy.rename(moved)
    assert f"{dataset_copy}: no prepared dataset here" in refused(command, path, code=3)
    assert drcli(command, path, f"dataset.root={moved}", "--json").stdout == before


def test_an_unknown_split_is_refused(refused: Refused, finished: Path) -> None:
    message = refused("eval", finished / "checkpoint.pt", "--split", "dev", code=2)
    assert message == "--split dev: must be one of train, val, test\n"


def test_a_setting_that_is_the_checkpoints_own_is_refused(refused: Refused, finished: Path) -> None:
    message = refused("eval", finished / "checkpoint.pt", "training.epochs=3", code=2)
    assert message.startswith("override training.epochs: eval takes only dataset.root=DIR")


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_a_run_directory_stands_for_its_checkpoint(command: str, drcli: Drcli, finished: Path) -> None:
    assert drcli(command, finished, "--json").stdout == drcli(command, finished / "checkpoint.pt", "--json").stdout


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_a_run_without_a_finished_epoch_has_no_checkpoint(command: str, refused: Refused, run_copy: Path) -> None:
    (run_copy / "checkpoint.pt").unlink()
    message = refused(command, run_copy, code=3)
    assert message == f"{run_copy}: this run has no checkpoint.pt, as no epoch of it is finished; train it\n"


def test_a_run_that_was_trained_with_a_relative_root_is_evaluated_from_another_folder(
    drcli: Drcli, recipe_file: RecipeFile, dataset_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe_file(dataset={"name": "toy", "root": dataset_copy.name})
    monkeypatch.chdir(dataset_copy.parent)
    drcli("train", path, "training.epochs=1", "--out", tmp_path / "runs", "--device", "cpu")
    monkeypatch.chdir("/")
    assert json.loads(drcli("eval", tmp_path / "runs" / "toy" / "joint" / "seed0", "--json").stdout)["n"] == 30
