"""`drcli train`: the contract of its output, and that repeating it is safe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import Drcli, RecipeFile, Refused, tree
from support.run_tree import MadeRun, write_runs

from drcli.commands.train import to_json
from drcli.data.prepared import PreparedDataset, Split
from drcli.engine import run as engine_run
from drcli.engine.grid import GridResult
from drcli.report.tables import KEYS
from drcli.runs.collect import collect
from drcli.runs.records import Summary

RUN = {
    "method": str,
    "seed": int,
    "run_dir": str,
    "checkpoint": str,
    "selection": str,
    "epochs": int,
    "seconds": float,
    "val": dict,
    "test": dict,
    "unimodal": dict,
}
ROW = {
    "method",
    "n",
    "accuracy_mean",
    "accuracy_std",
    "val_accuracy_mean",
    "val_accuracy_std",
    "fused_probe_mean",
    "fused_probe_std",
    "difference_to_joint",
    "difference_ci95",
    "difference_p",
    "difference_p_holm",
    "reference",
}


def check_run(run: dict[str, Any], modalities: set[str]) -> None:
    assert {key: type(run[key]) for key in RUN} == RUN
    assert {key: type(value) for key, value in run["test"].items()} == {
        "accuracy": float,
        "macro_f1": float,
        "n": int,
    }
    assert 0 <= run["test"]["accuracy"] <= 1
    assert 0 <= run["test"]["macro_f1"] <= 1
    assert run["test"]["n"] == 30  # samples, though each has two rows
    assert set(run["unimodal"]) == modalities
    for found in run["unimodal"].values():
        assert list(found) == ["probe_accuracy"]
        assert 0 <= found["probe_accuracy"] <= 1
    assert Path(run["checkpoint"]) == Path(run["run_dir"]) / "checkpoint.pt"
    assert Path(run["checkpoint"]).is_file()


def test_json_is_one_object_with_every_run_and_every_row(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    arguments = ("--method", "all", "--seeds", "0,1", "--out", tmp_path / "runs", "--json")
    found = json.loads(drcli("train", recipe_file(), *arguments).stdout)
    assert set(found) == {"runs", "summary"}
    names = ["joint", "unimodal", "unimodal", "unimodal", "unimodal", "diagnose_relearn"]
    assert list(dict.fromkeys(run["method"] for run in found["runs"])) == list(dict.fromkeys(names))
    assert [run["seed"] for run in found["runs"]] == [0, 1] * 4
    for run in found["runs"]:
        check_run(run, {run["modality"]} if run["method"] == "unimodal" else {"audio", "visual"})
        assert ("modality" in run) == (run["method"] == "unimodal")
        assert run["epochs"] == 2
    rows = {row["method"]: row for row in found["summary"]}
    assert list(rows) == ["joint", "unimodal:audio", "unimodal:visual", "diagnose_relearn"]
    assert all(set(row) == ROW and row["n"] == 2 for row in rows.values())
    assert rows["joint"]["difference_to_joint"] is None
    assert rows["joint"]["difference_ci95"] is None
    assert rows["unimodal:audio"]["fused_probe_mean"] is None
    fused = [run["fused_probe"] for run in found["runs"] if run["method"] == "joint"]
    assert rows["joint"]["fused_probe_mean"] == pytest.approx(sum(fused) / 2)
    assert rows["unimodal:audio"]["reference"] == "joint"
    check_row(rows["unimodal:audio"], found["runs"])


def check_row(row: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """The row of unimodal:audio, from the runs themselves."""
    joint = [run["test"]["accuracy"] for run in runs if run["method"] == "joint"]
    audio = [run["test"]["accuracy"] for run in runs if run.get("modality") == "audio"]
    assert row["accuracy_mean"] == pytest.approx(sum(audio) / 2)
    assert row["accuracy_std"] == pytest.approx(abs(audio[0] - audio[1]) / 2**0.5)  # n - 1 is 1
    differences = [a - j for a, j in zip(audio, joint, strict=True)]
    mean = sum(differences) / 2
    half = 12.7062 * abs(differences[0] - differences[1]) / 2  # Student's t, one degree of freedom
    assert row["difference_to_joint"] == pytest.approx(mean)
    assert row["difference_ci95"] == pytest.approx([mean - half, mean + half], rel=1e-4, abs=1e-9)


def test_one_seed_has_no_spread_and_no_interval(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    found = drcli("train", recipe_file(), "--method", "diagnose_relearn", "--out", tmp_path / "runs", "--json")
    (row,) = json.loads(found.stdout)["summary"]
    assert row["accuracy_std"] is None
    assert row["difference_to_joint"] is None
    assert row["difference_ci95"] is None


def test_a_finished_run_is_shown_and_not_trained_again(drcli: Drcli, finished: Path, toy_root: Path) -> None:
    before, modified = tree(finished), (finished / "checkpoint.pt").stat().st_mtime_ns
    recipe, out = finished.parents[3] / "toy.yaml", finished.parents[2]
    again = drcli("train", recipe, "--out", out, "--json")
    assert tree(finished) == before
    assert (finished / "checkpoint.pt").stat().st_mtime_ns == modified
    (run,) = json.loads(again.stdout)["runs"]
    stored = json.loads((finished / "summary.json").read_text())
    assert {key: run[key] for key in stored} == stored
    assert "stored result" in again.stderr


def test_fresh_trains_again(drcli: Drcli, run_copy: Path, recipe_file: RecipeFile) -> None:
    recipe = recipe_file(methods={"joint": {}})
    out = run_copy.parent / "runs"
    folder = out / "toy" / "joint" / "seed0"
    folder.parent.mkdir(parents=True)
    run_copy.rename(folder)
    modified = (folder / "checkpoint.pt").stat().st_mtime_ns
    said = drcli("train", recipe, "--out", out, "--fresh").stderr
    assert "stored result" not in said
    assert (folder / "checkpoint.pt").stat().st_mtime_ns > modified


def test_an_unfinished_run_goes_on(drcli: Drcli, run_copy: Path, recipe_file: RecipeFile) -> None:
    (run_copy / "summary.json").unlink()
    lines = (run_copy / "metrics.jsonl").read_text()
    folder = run_copy.parent / "runs" / "toy" / "joint" / "seed0"
    folder.parent.mkdir(parents=True)
    run_copy.rename(folder)
    said = drcli("train", recipe_file(), "--out", run_copy.parent / "runs").stderr
    assert "resumed at epoch 2" in said
    assert (folder / "metrics.jsonl").read_text() == lines
    assert (folder / "summary.json").is_file()


def test_a_relative_out_lies_in_the_working_directory(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    recipe = recipe_file()
    monkeypatch.chdir(elsewhere)
    (run,) = json.loads(drcli("train", recipe, "training.epochs=1", "--json").stdout)["runs"]
    assert run["run_dir"] == "runs/toy/joint/seed0"
    kept = {path.name for path in (elsewhere / "runs/toy/joint/seed0").iterdir()}
    files = {"recipe.yaml", "checkpoint.pt", "last.pt", "metrics.jsonl", "events.jsonl", "summary.json"}
    assert kept >= files | {"environment.json", "tensorboard"}


def test_the_resolved_recipe_of_a_run_is_a_recipe_with_the_overrides_in_it(drcli: Drcli, finished: Path) -> None:
    shown = yaml.safe_load(drcli("show", finished / "recipe.yaml", "training.epochs=7").stdout)
    stored = yaml.safe_load((finished / "recipe.yaml").read_text())
    assert shown == {**stored, "training": {**stored["training"], "epochs": 7}}


class Guard:
    """Notes that the final evaluation has begun, and raises if the test split is opened before."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.final = False
        self.opened: list[str] = []
        split, finish = PreparedDataset.split, engine_run._finish

        def guarded(dataset: PreparedDataset, name: str) -> Split:
            assert name != "test" or self.final, "the test split was opened while training"
            self.opened.append(name)
            return split(dataset, name)

        def last(*args: Any, **options: Any) -> Summary:
            self.final = True
            return finish(*args, **options)

        patch.setattr(PreparedDataset, "split", guarded)
        patch.setattr(engine_run, "_finish", last)


@pytest.mark.parametrize("selection", ["val", "last"])
def test_the_test_split_is_opened_by_the_final_evaluation_only(
    selection: str,
    drcli: Drcli,
    recipe_file: RecipeFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = Guard(monkeypatch)
    methods = {"diagnose_relearn": {"every": 1, "restarts": 1}}
    recipe = recipe_file(
        selection=selection, method="diagnose_relearn", methods=methods, diagnosis={"monitor_every": 1}
    )
    drcli("train", recipe, "training.epochs=3", "--out", tmp_path / "runs")
    assert guard.opened.count("test") == 1


@pytest.mark.parametrize("block", [{"selection": "test"}, {"monitor": "test"}])
def test_the_guard_of_the_test_split_sees_the_recipes_that_ask_for_it(
    block: dict[str, Any],
    drcli: Drcli,
    recipe_file: RecipeFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Guard(monkeypatch)
    stopped = drcli("train", recipe_file(**block), "--out", tmp_path / "runs", code=1)
    assert "AssertionError" in stopped.stderr
    assert "opened while training" in stopped.stderr


def test_selection_on_test_is_said_wherever_the_number_stands(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe, out = recipe_file(selection="test"), ("--out", tmp_path / "runs")
    (run,) = json.loads(drcli("train", recipe, *out, "--json").stdout)["runs"]
    assert run["selection"] == "test"
    shown = drcli("train", recipe, *out)
    assert "selected on test" in shown.stdout
    assert "selected on test" in shown.stderr
    assert json.loads(drcli("eval", run["checkpoint"], "--json").stdout)["selection"] == "test"
    assert "selected on test" in " ".join(drcli("eval", run["checkpoint"]).stdout.split())


def test_monitoring_test_is_said_wherever_the_number_stands_and_selects_nothing(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe, out = recipe_file(monitor="test"), ("--out", tmp_path / "runs")
    (run,) = json.loads(drcli("train", recipe, *out, "--json").stdout)["runs"]
    assert (run["selection"], run["monitor"]) == ("val", "test")
    shown = drcli("train", recipe, *out)
    assert "test split was watched while training" in " ".join(shown.stdout.split())
    assert "test split was watched while training" in shown.stderr
    assert json.loads(drcli("eval", run["checkpoint"], "--json").stdout)["monitor"] == "test"
    assert "test split was watched" in " ".join(drcli("eval", run["checkpoint"]).stdout.split())
    lines = [json.loads(line) for line in (Path(run["run_dir"]) / "metrics.jsonl").read_text().splitlines()]
    assert all("test" in line for line in lines)
    best = max(lines, key=lambda line: line["val"]["accuracy"])
    assert run["selected_epoch"] == best["epoch"]


def test_the_table_compares_methods_with_joint_training(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    arguments = ("--method", "joint,unimodal", "--seeds", "0,1", "--out", tmp_path / "runs")
    shown = drcli("train", recipe_file(), "training.epochs=1", *arguments).stdout
    for word in ("joint", "unimodal:audio", "unimodal:visual", "audio probe", "minus joint", "±"):
        assert word in shown
    assert "diagnose_relearn" not in shown


def test_the_table_is_whole_in_a_narrow_window(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "runs"
    arguments = ("--method", "joint,unimodal", "--seeds", "0,1", "--out", out)
    lines = drcli("train", recipe_file(), "training.epochs=1", *arguments).stdout.splitlines()
    assert "…" not in "".join(lines)
    assert lines[-1] == f"runs, with their checkpoint.pt: {out / 'toy'}"
    names = "".join(line.split("│")[1].strip() for line in lines if line.startswith("│"))
    assert names == "jointunimodal:audiounimodal:visual"
    assert max(map(len, lines[1:-1])) <= 80


def test_one_seed_has_a_difference_and_no_interval_in_the_table(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe = recipe_file(methods={"joint": {}, "again": {"method": "joint"}})
    arguments = ("--method", "joint,again", "--out", tmp_path / "runs")
    shown = drcli("train", recipe, "training.epochs=1", *arguments).stdout
    (row,) = (line for line in shown.splitlines() if "again" in line)
    assert "+0.0" in row
    assert "[" not in row


def test_method_names_are_labels_and_keep_their_order(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    recipe = recipe_file(methods={"slow": {"method": "joint"}, "joint": {}}, method="joint")
    arguments = ("--method", "slow, joint,slow", "--out", tmp_path / "runs", "--json")
    found = json.loads(drcli("train", recipe, "training.epochs=1", *arguments).stdout)
    assert [run["method"] for run in found["runs"]] == ["slow", "joint"]


def test_a_dataset_that_was_moved_is_still_the_data_of_the_run(
    drcli: Drcli, finished: Path, dataset_copy: Path
) -> None:
    recipe, out = finished.parents[3] / "toy.yaml", finished.parents[2]
    assert "stored result" in drcli("train", recipe, f"dataset.root={dataset_copy}", "--out", out).stderr


def test_a_dataset_without_download_is_prepared_first(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    root = tmp_path / "deep" / "toy"
    said = drcli("train", recipe_file(), f"dataset.root={root}", "training.epochs=1", "--out", tmp_path / "runs")
    assert (root / "dataset.json").is_file()
    assert "joint" in said.stdout


def test_out_of_another_run_is_refused_with_the_differences(refused: Refused, drcli: Drcli, finished: Path) -> None:
    before = tree(finished)
    recipe, out = finished.parents[3] / "toy.yaml", finished.parents[2]
    changes = ("training.optimizer.lr=0.1", "training.epochs=3")
    message = refused("train", recipe, *changes, "--out", out, code=2)
    assert message.startswith(f"{finished}: holds a run of another recipe; delete the folder, or train with --fresh")
    assert "training.optimizer.lr: 0.05 in the folder, 0.1 requested" in message
    assert "training.epochs: 2 in the folder, 3 requested" in message
    assert tree(finished) == before


def test_columns_are_chosen_by_their_keys(drcli: Drcli, finished: Path) -> None:
    """Of a stored run; an unknown key is refused before anything is read."""
    recipe, out = finished.parents[3] / "toy.yaml", finished.parents[2]
    shown = drcli("train", recipe, "--out", out, "--columns", "accuracy, ece,parameters").stdout
    headings = shown.splitlines()[2]
    assert all(name in headings for name in ("accuracy", "ECE", "parameters"))
    assert "probe" not in headings
    assert "--columns" in drcli("train", recipe, "--out", out, "--columns", "ece,acuracy", code=2).stderr


def test_the_help_names_every_column(drcli: Drcli) -> None:
    words = {word.strip(".,;│ ") for word in drcli("report", "--help").stdout.split()}
    assert set(KEYS) - {"method"} <= words


def test_json_has_the_warnings_of_the_table(tmp_path: Path) -> None:
    fine, apart = (collect([write_runs(tmp_path / str(gap), [MadeRun(gap=gap)])]) for gap in (0.01, 0.15))
    assert "warnings" not in to_json(GridResult(fine))
    (warning,) = to_json(GridResult(apart))["warnings"]
    assert warning.startswith("digits: Validation and test differ by more than sampling explains: ")
