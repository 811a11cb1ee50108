"""A regression through every command: a made-up CMU-MOSI, prepared, trained, evaluated, reported, exported, refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_line import Drcli, Refused, invoke, tree
from support.mosi_tree import utterance_download

import drcli as package
from drcli import checkpoint
from drcli.data.batches import Batches
from drcli.data.prepared import open_dataset
from drcli.report.tables import comparison_table
from drcli.runs.collect import collect
from drcli.runs.directory import RunDirectory

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "cmu_mosi_regression.yaml"
METHODS = "joint,multi_loss"
OTHERS = "ensemble,uni_frozen,uni_finetuned,modality_dropout,mmpareto,umt"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the prepared dataset `data` and the finished runs `runs`; not to be changed."""
    folder = tmp_path_factory.mktemp("regression")
    changes = ["dataset.prepare.val_videos=2", f"dataset.root={folder / 'data'}"]
    source = utterance_download(folder / "download")
    invoke("prepare", RECIPE, *changes, "--source", source, "--out", folder / "data")
    result = invoke(*training(folder), "--method", METHODS, "--seeds", "0,1", "--json")
    (folder / "train.json").write_text(result.stdout, encoding="utf-8")
    return folder


def training(place: Path, out: str = "runs") -> list[str]:
    """The command without methods and seeds."""
    changes = ["dataset.prepare.val_videos=2", f"dataset.root={place / 'data'}", "training.epochs=2"]
    return ["train", str(RECIPE), *changes, "--jobs", "1", "--out", str(place / out)]


def run_of(place: Path, label: str = "joint") -> Path:
    return place / "runs" / "cmu_mosi_regression" / label / "seed0"


def said(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "train.json").read_text(encoding="utf-8"))
    return found


def by_hand(place: Path, label: str = "joint") -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true values of the test split, as test_predictions.csv holds them."""
    text = (run_of(place, label) / "test_predictions.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert list(rows[0]) == ["id", "value", "predicted"]
    return np.array([float(row["predicted"]) for row in rows]), np.array([float(row["value"]) for row in rows])


@pytest.mark.parametrize("label", ["joint", "multi_loss"])
def test_a_summary_has_the_scores_of_its_predictions(label: str, place: Path) -> None:
    values, targets = by_hand(place, label)
    summary = json.loads((run_of(place, label) / "summary.json").read_text(encoding="utf-8"))
    assert set(summary["test"]) == {"mae", "corr", "n"}
    assert summary["test"]["mae"] == pytest.approx(np.abs(values - targets).mean(), abs=1e-5)
    assert summary["test"]["corr"] == pytest.approx(np.corrcoef(values, targets)[0, 1], abs=1e-4)
    assert summary["measures"]["acc2"] == pytest.approx(((values >= 0) == (targets >= 0)).mean())
    rounded = (np.round(np.clip(values, -3, 3)) == np.round(targets)).mean()
    assert summary["measures"]["acc7"] == pytest.approx(rounded)
    assert set(summary["unimodal"]["text"]) == {"probe_mae", "probe_corr"}
    assert set(summary["fused_probe"]) == {"probe_mae", "probe_corr"}
    assert "accuracy" not in json.dumps(summary)


def test_the_epoch_with_the_least_error_on_validation_is_kept(place: Path) -> None:
    for label in ("joint", "multi_loss"):
        epochs = RunDirectory(run_of(place, label)).epochs()
        errors = [record.val.first for record in epochs]
        summary = RunDirectory(run_of(place, label)).summary()
        assert summary is not None
        assert summary.val is not None
        assert summary.selected_epoch == int(np.argmin(errors))
        assert summary.val.first == min(errors)
        assert all(set(record.train) >= {"loss", "mae"} for record in epochs)
    state = checkpoint.load(run_of(place) / "checkpoint.pt")["selected"]
    assert set(state) == {"epoch", "mae"}


@pytest.mark.slow
def test_a_run_that_is_lengthened_is_the_one_that_was_longer_from_the_start(place: Path, tmp_path: Path) -> None:
    """The selected epoch and its MAE survive in last.pt."""
    words = [*training(place)[:-1], tmp_path, "--method", "joint", "--seeds", "0"]
    invoke(*words, "training.epochs=1")
    invoke(*words)
    short = tmp_path / "cmu_mosi_regression/joint/seed0"
    for name in ("checkpoint.pt", "last.pt"):
        mine, theirs = (checkpoint.load(folder / name) for folder in (short, run_of(place)))
        assert mine["selected"] == theirs["selected"]
        assert all(torch.equal(tensor, theirs["model"][key]) for key, tensor in mine["model"].items())


def test_the_comparison_says_which_way_is_up(place: Path, drcli: Drcli) -> None:
    rows = {row["method"]: row for row in said(place)["summary"]}
    joint, other = rows["joint"], rows["multi_loss"]
    assert {"mae_mean", "mae_std", "val_mae_mean", "val_mae_std", "corr_mean", "corr_std"} < set(joint)
    assert not any("accuracy" in key for key in joint)
    assert other["difference_to_joint"] == pytest.approx(other["mae_mean"] - joint["mae_mean"])
    shown = drcli("report", place / "runs", "--format", "markdown").stdout
    heading = next(line for line in shown.splitlines() if line.startswith("| method"))
    columns = [part.strip() for part in heading.strip("|").split("|")]
    assert columns[:7] == ["method", "seeds", "val", "MAE", "corr", "Acc-2", "Acc-7"]
    assert "accuracy" not in heading
    assert "minus joint: MAE minus that of joint, below 0 is better, paired by seed" in shown
    assert "MAE: mean absolute error, the less the better" in shown
    assert "probe: MAE of a ridge regression" in shown
    chosen = drcli("report", place / "runs", "--format", "markdown", "--columns", "mae,f1,acc5,acc2_nonzero").stdout
    assert "| method | MAE | F1 | Acc-5 | Acc-2, no 0 |" in " ".join(chosen.split())


def test_the_best_is_the_one_with_the_least_error(place: Path, drcli: Drcli, tmp_path: Path) -> None:
    drcli("report", place / "runs", "--format", "latex", "--columns", "mae", "--out", tmp_path / "all.tex")
    runs = [run for run in collect([place / "runs"]) if run.seed == 0]
    table = comparison_table(runs, columns=["mae"], for_print=True)
    errors = {run.name: run.score for run in runs}
    names = list(errors)
    assert {names[row] for row, _ in table.bold} == {min(names, key=errors.__getitem__)}
    (row, *_) = csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text(encoding="utf-8")))
    assert {"mae_mean", "corr_mean", "acc7_mean", "probe_text"} < set(row)
    assert not {"accuracy_mean", "nll_mean"} & set(row)


@pytest.mark.slow
def test_the_page_and_its_figures_show_mae(place: Path, drcli: Drcli, tmp_path: Path) -> None:
    drcli("report", place / "runs", "--out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Validation MAE." in page
    assert "MAE minus that of joint, below 0 is better" in page
    assert "Accuracies of the predicted values" in page
    for absent in ("Confusion matrices", "Purity, gap", "Calibration", "Validation accuracy"):
        assert absent not in page


def test_eval_repeats_the_scores_and_measures_under_conditions(place: Path, drcli: Drcli, tmp_path: Path) -> None:
    shutil.copytree(run_of(place), tmp_path / "run")
    options = ["--subsets", "all", "--missing", "text=0.5", "--noise", "text=0", "--draws", "2"]
    words = ["eval", tmp_path / "run", f"dataset.root={place / 'data'}", *options]
    found = json.loads(drcli(*words, "--json").stdout)
    summary = json.loads((run_of(place) / "summary.json").read_text(encoding="utf-8"))
    assert {key: found[key] for key in ("mae", "corr", "n")} == summary["test"]
    assert found["measures"] == summary["measures"]
    whole = found["subsets"]["text+audio+visual"]
    assert (whole["mae"], whole["corr"]) == (found["mae"], found["corr"])
    assert found["subsets"]["audio"]["mae"] != found["mae"]
    for kind, name in (("missing", "0.5"), ("noise", "0")):
        assert {"mae", "mae_std", "corr", "corr_std", "n", "draws"} == set(found[kind]["text"][name])
    shown = drcli(*words).stdout
    assert f"{found['mae']:.3f}" in shown
    assert "MAE with these modalities alone" in shown
    assert "accuracy of seven classes (%)" in shown
    report = drcli("report", tmp_path / "run", "--format", "markdown").stdout
    assert "cmu_mosi_regression: MAE with white noise on the inputs of text" in report


def test_a_loaded_model_predicts_the_values(place: Path) -> None:
    found = package.load(run_of(place))
    assert (found.recipe.task, found.classes) == ("regression", ("score",))
    plans = {m: transform.plan for m, transform in found.transforms.items()}
    (batch,) = (
        Batches(open_dataset(place / "data").split("test"), plans, torch.device("cpu")).take(torch.arange(8)).split(1)
    )
    values = found.predict(batch.inputs).logits
    assert values.shape == (8, 1)
    np.testing.assert_allclose(values[:, 0], by_hand(place)[0], atol=1e-5)


def test_an_encoder_is_exported_with_its_task(place: Path, drcli: Drcli, tmp_path: Path) -> None:
    words = ["export", run_of(place), "--encoder", "text", "--out", tmp_path / "text.safetensors", "--json"]
    assert json.loads(drcli(*words).stdout)["metadata"]["task"] == "regression"


def test_a_diagnosis_is_refused(place: Path, refused: Refused) -> None:
    message = refused("diagnose", run_of(place), f"dataset.root={place / 'data'}", code=2)
    assert "is a regression, and purity compares clusters with classes; diagnose a run on classes" in message


@pytest.mark.parametrize("command", ["show", "train"])
def test_methods_that_need_classes_are_refused_before_any_data_is_read(
    command: str, refused: Refused, tmp_path: Path
) -> None:
    message = refused(
        command, RECIPE, "methods.diagnose_relearn={}", "method=diagnose_relearn",
        *(["--out", tmp_path] if command == "train" else []), code=2,
    )  # fmt: skip
    assert "diagnose_relearn needs classes, and task: regression has none; choose one of joint, unimodal" in message
    assert "methods.diagnose_relearn" in message
    assert not tree(tmp_path)


def test_columns_of_the_other_task_are_refused_before_anything_is_trained(refused: Refused, tmp_path: Path) -> None:
    message = refused("train", RECIPE, "--columns", "seeds,accuracy", "--out", tmp_path, code=2)
    assert "--columns accuracy: a regression has none; its scores are mae, corr, acc2, f1," in message
    message = refused("train", "digits", "--columns", "mae", "--out", tmp_path, code=2)
    assert "--columns mae: a classification has none; its scores are accuracy, macro_f1, balanced_accuracy" in message
    assert not tree(tmp_path)


def test_runs_of_both_tasks_under_one_name_are_not_compared(place: Path, refused: Refused, tmp_path: Path) -> None:
    shutil.copytree(place / "runs", tmp_path / "runs")
    folder = RunDirectory(tmp_path / "runs/cmu_mosi_regression/multi_loss/seed0")
    for name, old, new in (
        ("recipe.yaml", "task: regression", "task: classification"),
        ("summary.json", '"mae"', '"accuracy"'),
    ):
        path = folder.folder / name
        path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    summary = json.loads((folder.folder / "summary.json").read_text(encoding="utf-8"))
    scores = {"accuracy": 0.5, "macro_f1": 0.5, "n": 8}
    summary |= {"val": scores, "test": scores, "unimodal": {}, "fused_probe": 0.5}
    del summary["measures"]
    (folder.folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    message = refused("report", tmp_path / "runs", "--format", "markdown", code=2)
    assert "of the same recipe cmu_mosi_regression" in message


@pytest.mark.slow
def test_every_method_that_can_is_trained_and_the_ensemble_averages_values(place: Path, drcli: Drcli) -> None:
    found = json.loads(drcli(*training(place, "others"), "--method", OTHERS, "--seeds", "0", "--json").stdout)
    assert set(OTHERS.split(",")) < {row["method"] for row in found["summary"]}
    assert all(0 < row["mae_mean"] < 6 for row in found["summary"])
    folder = place / "others" / "cmu_mosi_regression"
    alone = [RunDirectory(folder / "unimodal" / m / "seed0").outputs() for m in ("text", "audio", "visual")]
    together = RunDirectory(folder / "ensemble" / "seed0").outputs()
    assert together is not None
    mean = np.mean([one.logits for one in alone if one is not None], axis=0)
    np.testing.assert_allclose(together.logits, mean, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_tuning_takes_the_trial_with_the_least_error(place: Path, drcli: Drcli, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = [*training(place)[1:-4], "--method", "joint", "--trials", "3", "--tune-seeds", "100", "--out", tmp_path]
    search = "search.training.optimizer.lr={low: 0.0001, high: 0.1, log: true}"
    found = json.loads(drcli("tune", *words, search, "--sampler", "tpe", "--json").stdout)["methods"]["joint"]
    errors = [trial["mae"] for trial in found["history"]]
    assert (found["tuned"], found["default"]) == (min(errors), errors[0])
    assert found["gain"] == pytest.approx(min(errors) - errors[0])
    assert found["gain"] <= 0
    assert found["expected_best"][0] >= found["expected_best"][-1]
    table = (tmp_path / "tuned/cmu_mosi_regression/tables.md").read_text(encoding="utf-8")
    assert "validation MAE, the less the better" in table


@pytest.mark.slow
def test_a_tuned_recipe_stays_a_regression(place: Path, drcli: Drcli, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    words = [*training(place)[1:-4], "--method", "joint", "--trials", "1", "--tune-seeds", "100", "--out", tmp_path]
    done = json.loads(drcli("tune", *words, "--json").stdout)
    assert "task: regression" in Path(done["tuned"]).read_text(encoding="utf-8")
    assert "validation MAE" in drcli("tune", *words).stdout
