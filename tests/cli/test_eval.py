"""`drcli eval`: the contract of its output."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import confusion_matrix, log_loss
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli import checkpoint


def test_test_scores_equal_those_of_the_run(drcli: Drcli, finished: Path) -> None:
    before = tree(finished)
    path = finished / "checkpoint.pt"
    found = json.loads(drcli("eval", path, "--json").stdout)
    assert {"checkpoint", "split", "n", "accuracy", "macro_f1", "unimodal"} <= set(found)
    assert "unfinished" not in found
    stored = json.loads((finished / "summary.json").read_text())
    assert (found["checkpoint"], found["split"]) == (str(path), "test")
    assert {key: found[key] for key in ("accuracy", "macro_f1", "n")} == stored["test"]
    assert found["unimodal"] == stored["unimodal"]
    assert found["fused_probe"] == stored["fused_probe"]
    assert found["measures"] == stored["measures"]
    assert found["cost"] == stored["cost"]
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


def test_what_a_run_took_is_that_of_its_summary_and_elsewhere_its_parameters_alone(
    drcli: Drcli, finished: Path, run_copy: Path
) -> None:
    (run_copy / "summary.json").unlink()
    whole = json.loads(drcli("eval", run_copy / "checkpoint.pt", "--json").stdout)
    found = whole["cost"]
    assert whole["unfinished"] == {"epochs_done": 2, "epochs": 2}
    state = checkpoint.load(finished / "checkpoint.pt")
    tensors = {**state["model"], **state["extras"]}
    learnt = sum(
        x.numel() for name, x in tensors.items() if not name.endswith(("running_mean", "running_var", "tracked"))
    )
    assert found == {"parameters": learnt}
    cost = json.loads((finished / "summary.json").read_text())["cost"]
    assert cost["parameters"] == learnt
    assert 0 < cost["seconds_per_epoch"] < 60
    assert cost["seconds_per_1000"] > 0
    assert cost["peak_memory"] > 2**20


def test_of_a_run_that_was_killed_the_table_says_how_far_it_came(drcli: Drcli, run_copy: Path) -> None:
    (run_copy / "summary.json").unlink()
    lines = (run_copy / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run_copy / "metrics.jsonl").write_text(lines[0])
    assert "; the run is not finished: 1 of 2 epochs): split test" in drcli("eval", run_copy / "checkpoint.pt").stdout


def test_measures_are_those_of_the_stored_outputs(finished: Path) -> None:
    """Against scikit-learn, from test_outputs.npz: rows are draws, two of each sample."""
    stored = json.loads((finished / "summary.json").read_text())["measures"]
    with np.load(finished / "test_outputs.npz") as kept:
        labels, logits, weight, classes = (kept[name] for name in ("labels", "logits", "weight", "classes"))
    shares = softmax(logits.astype(float), axis=1)
    confusion = confusion_matrix(labels, logits.argmax(axis=1), sample_weight=weight)
    assert stored["calibration"]["nll"] == pytest.approx(log_loss(labels, shares, sample_weight=weight))
    assert [stored["classes"][name]["n"] for name in classes] == confusion.sum(axis=1).tolist()
    accuracies = confusion.diagonal() / confusion.sum(axis=1)
    assert [stored["classes"][name]["accuracy"] for name in classes] == pytest.approx(accuracies)
    scaled = softmax(logits.astype(float) / stored["temperature"], axis=1)
    assert stored["scaled"]["nll"] == pytest.approx(log_loss(labels, scaled, sample_weight=weight))


def test_predictions_are_kept_with_the_ids_of_their_samples(finished: Path, toy_root: Path) -> None:
    ids = (toy_root / "test" / "ids.txt").read_text().split()
    with np.load(finished / "test_outputs.npz") as kept:
        assert kept["ids"].tolist() == ids
        predicted = kept["classes"][kept["logits"].argmax(axis=1)].tolist()
        truth = kept["classes"][kept["labels"]].tolist()
    with (finished / "test_predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["id", "label", "predicted", "confidence"]
    assert [(row["id"], row["label"], row["predicted"]) for row in rows] == list(
        zip(ids, truth, predicted, strict=True)
    )
    assert all(0.2 < float(row["confidence"]) <= 1 for row in rows)


def test_the_table_holds_the_scores(drcli: Drcli, finished: Path) -> None:
    shown = drcli("eval", finished / "checkpoint.pt").stdout
    for word in (
        "accuracy",
        "macro-F1",
        "samples",
        "audio linear probe",
        "visual linear probe",
        "fused linear probe",
        "balanced accuracy",
        "Brier score at that temperature",
        "peak memory (MiB)",
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
