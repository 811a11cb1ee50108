"""Runs read back from their folders."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.run_folders import write_run

from drcli.errors import DataError, UsageError
from drcli.runs.collect import by_name, by_recipe, collect, finished, named


def test_runs_come_by_recipe_then_in_the_recipes_order_then_by_modality_and_seed(tmp_path: Path) -> None:
    noted = {"labels": ["diagnose_relearn", "unimodal", "joint"]}
    write_run(tmp_path, 0.5, recipe="b", seed=10)
    write_run(tmp_path, 0.5, label="unimodal", modality="visual", recipe="b", environment=noted)
    write_run(tmp_path, 0.5, label="unimodal", modality="audio", recipe="b")
    write_run(tmp_path, 0.5, recipe="b", seed=2)
    write_run(tmp_path, 0.6, label="diagnose_relearn", recipe="b")
    write_run(tmp_path, 0.5, recipe="a")
    found = [(run.recipe_name, run.name, run.seed) for run in collect([tmp_path])]
    assert found == [
        ("a", "joint", 0),
        ("b", "diagnose_relearn", 0),
        ("b", "unimodal:audio", 0),
        ("b", "unimodal:visual", 0),
        ("b", "joint", 2),
        ("b", "joint", 10),
    ]


def test_labels_that_no_run_noted_come_last_in_the_registrys_order(tmp_path: Path) -> None:
    for label in ("diagnose_relearn", "joint", "mine"):
        write_run(tmp_path, 0.5, label=label, method="joint" if label == "mine" else label)
    write_run(tmp_path, 0.5, label="pmr", environment={"labels": ["pmr"]})
    assert [run.name for run in collect([tmp_path])] == ["pmr", "joint", "mine", "diagnose_relearn"]


def test_files_of_the_version_before_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 0.5)
    path = folder / "summary.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in found.items() if key not in {"format", "val"}}))
    lines = (folder / "metrics.jsonl").read_text().replace("samples_per_second", "clips_per_second")
    (folder / "metrics.jsonl").write_text(lines)
    (run,) = collect([tmp_path])
    assert (run.done.format, run.done.val, run.score) == (1, None, 0.5)
    assert run.epochs()[0].samples_per_second == 1234.5
    path.write_text(json.dumps({**found, "format": 3}))
    with pytest.raises(DataError, match=r"summary\.json: format is 3, this drcli reads up to 2; use the"):
        collect([tmp_path])


def test_a_folder_inside_another_counts_once(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 0.5)
    assert len(collect([folder, tmp_path, tmp_path / "toy"])) == 1


def test_a_record_tells_label_method_dataset_and_lines(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, label="cautious", method="diagnose_relearn", seed=3, recipe="mine", epochs=5)
    (run,) = collect([tmp_path])
    assert (run.label, run.method, run.dataset, run.recipe_name, run.seed) == (
        "cautious",
        "diagnose_relearn",
        "toy",
        "mine",
        3,
    )
    assert [record.epoch for record in run.epochs()] == [0, 1, 2, 3, 4]
    assert [event.kind for event in run.events()] == ["monitor", "monitor"]


def test_an_unfinished_unimodal_run_learns_its_modality_from_its_folder(tmp_path: Path) -> None:
    write_run(tmp_path, None, label="unimodal", modality="visual")
    write_run(tmp_path, None)
    assert [(run.name, run.summary) for run in collect([tmp_path])] == [("joint", None), ("unimodal:visual", None)]


def test_test_outputs_are_read_where_they_were_kept(tmp_path: Path) -> None:
    write_run(tmp_path, 0.5, outputs=True)
    write_run(tmp_path, 0.5, seed=1)
    kept, absent = (run.outputs() for run in collect([tmp_path]))
    assert absent is None
    assert kept is not None
    assert (kept.labels.shape, kept.features["audio"].shape) == ((30,), (30, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": None}, "no classes"),
        ({"weight": None}, "no weight"),
        ({"logits": np.zeros((30, 2))}, r"logits has the shape \(30, 2\), not \(30, 3\)"),
        ({"features_audio": np.zeros((29, 4))}, r"features_audio has the shape \(29, 4\)"),
        ({"labels": np.zeros(30)}, "labels that are not indices of classes"),
        ({"labels": np.full(30, 3)}, "labels that are not indices of classes"),
    ],
)
def test_arrays_that_lack_or_do_not_fit_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = write_run(tmp_path, 0.5, outputs=True) / "test_outputs.npz"
    with np.load(path) as stored:
        arrays = {**stored, **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(DataError, match=rf"test_outputs\.npz: damaged \({message}"):
        collect([tmp_path])[0].outputs()


def test_runs_group_by_recipe_and_by_name(tmp_path: Path) -> None:
    for recipe in ("a", "b"):
        for seed in (0, 1):
            write_run(tmp_path, 0.5, recipe=recipe, seed=seed)
    write_run(tmp_path, 0.5, recipe="a", label="pmr", method="joint")
    groups = by_recipe(collect([tmp_path]))
    assert {name: [run.seed for run in runs] for name, runs in by_name(groups["a"]).items()} == {
        "joint": [0, 1],
        "pmr": [0],
    }
    assert list(groups) == ["a", "b"]


def test_runs_are_named_with_the_seed_where_the_name_has_others(tmp_path: Path) -> None:
    for label in ("joint", "pmr", "agm"):
        for seed in (0, 1):
            write_run(tmp_path, None if seed else 0.5, label=label, seed=seed)
    runs = collect([tmp_path])
    assert named([run for run in runs if run.label == "pmr"], runs) == "pmr"
    assert named([run for run in runs if run.label != "pmr" or run.seed], runs) == "joint, pmr seed 1 and agm"
    assert named([run for run in runs if run.seed], runs) == "joint seed 1, pmr seed 1 and agm seed 1"
    assert [run.seed for run in finished(runs)] == [0, 0, 0]


def test_many_names_are_cut_short(tmp_path: Path) -> None:
    for number in range(9):
        write_run(tmp_path, 0.5, label=f"m{number}", method="joint")
    runs = collect([tmp_path])
    assert named(runs, runs) == "m0, m1, m2, m3, m4, m5 and 3 more"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no run here or below; give the folders that `drcli train` wrote to"):
        collect([tmp_path])


def test_a_folder_that_is_not_there_or_is_a_file_is_refused(tmp_path: Path) -> None:
    recipe = write_run(tmp_path, 0.5) / "recipe.yaml"
    for path, why in {tmp_path / "none": "no such folder", recipe: "is a file"}.items():
        with pytest.raises(DataError) as caught:
            collect([tmp_path, path])
        assert str(caught.value) == f"{path}: {why}; give the folders that `drcli train` wrote to"


def test_the_same_run_in_two_places_is_refused(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "x", 0.5), write_run(tmp_path / "y", 0.6)
    with pytest.raises(UsageError) as caught:
        collect([tmp_path])
    assert str(second) in str(caught.value)
    assert f"toy joint seed 0 is in {first} already" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("recipe.yaml", "[1", "damaged"),
        ("recipe.yaml", "3", "not a mapping"),
        ("recipe.yaml", "{name: a, dataset: {}}", r"no dataset\.name"),
        ("recipe.yaml", "{name: a, dataset: 5}", r"damaged \(dataset: "),
        ("environment.json", "[]", "not a JSON object"),
        ("environment.json", "{", "damaged"),
        ("summary.json", "{", "damaged"),
        ("summary.json", '{"seed": 0}', "no method"),
        ("summary.json", '{"method": "joint", "seed": "0"}', r"damaged \(seed: "),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write_run(tmp_path, 0.5) / name
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        collect([tmp_path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": {"accuracy": math.nan, "macro_f1": 0.5, "n": 30}}, r"test\.accuracy"),
        ({"test": {"accuracy": 0.5, "macro_f1": math.inf, "n": 30}}, r"test\.macro_f1"),
        ({"unimodal": {"audio": {"probe_accuracy": math.nan}}}, r"unimodal\.audio\.probe_accuracy"),
        ({"seconds": -math.inf}, "seconds"),
    ],
)
def test_a_score_that_is_no_number_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_run(tmp_path, 0.5) / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"summary\.json: damaged \({message}: .*finite"):
        collect([tmp_path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test": {"accuracy": 84.1, "macro_f1": 0.5, "n": 30}}, r"test\.accuracy: .* less than or equal to 1"),
        ({"val": {"accuracy": 0.5, "macro_f1": -0.5, "n": 30}}, r"val\.macro_f1: .* greater than or equal to 0"),
        ({"test": {"accuracy": 0.5, "macro_f1": 0.5, "n": 0}}, r"test\.n: .* greater than 0"),
        ({"unimodal": {"audio": {"probe_accuracy": 70}}}, r"unimodal\.audio\.probe_accuracy: .* equal to 1"),
        ({"seconds": -1.0}, "seconds: .* greater than or equal to 0"),
        ({"selected_epoch": 6}, "selected_epoch is 6, of 6 epochs"),
    ],
)
def test_scores_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = write_run(tmp_path, 0.5) / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=rf"summary\.json: damaged \({message}"):
        collect([tmp_path])


@pytest.mark.parametrize("change", [{"seed": 1}, {"method": "ogm"}, {"modality": "smell"}])
def test_the_scores_of_another_run_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = write_run(tmp_path, 0.5) / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match="its scores are of another run than its recipe; restore it, or leave"):
        collect([tmp_path])


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 1, 2, 1, 2, 3], "line 4 is epoch 1, not 3"),
        ([0, 2], "line 2 is epoch 2, not 1"),
        ([1], "line 1 is epoch 1, not 0"),
    ],
)
def test_epochs_that_are_doubled_or_missing_are_refused(tmp_path: Path, order: list[int], message: str) -> None:
    path = write_run(tmp_path, 0.5) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[epoch] for epoch in order))
    (run,) = collect([tmp_path])
    with pytest.raises(DataError, match=rf"metrics\.jsonl: damaged \({message}\)"):
        run.epochs()


def test_diagnoses_out_of_order_are_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, 0.5, label="diagnose_relearn") / "events.jsonl"
    first, second, relearned = path.read_text().splitlines(keepends=True)
    path.write_text(first + second + relearned + first)
    with pytest.raises(DataError, match=r"events\.jsonl: damaged \(epoch 2 after epoch 4\)"):
        collect([tmp_path])[0].events()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("logits", np.full((30, 3), np.nan), "logits that are not finite"),
        ("logits", np.full((30, 3), "1"), "logits holds no numbers"),
        ("features_audio", np.full((30, 4), "1"), "features_audio holds no numbers"),
        ("weight", np.zeros(30), r"weights outside \(0, 1\]"),
        ("weight", np.full(30, 2.0), r"weights outside \(0, 1\]"),
    ],
)
def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    path = write_run(tmp_path, 0.5, outputs=True) / "test_outputs.npz"
    with np.load(path) as arrays:
        changed = {**arrays, name: array}
    np.savez(path, **changed)
    with pytest.raises(DataError, match=rf"test_outputs\.npz: damaged \({message}\)"):
        collect([tmp_path])[0].outputs()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seeds", [0, 1]),
        ("seeds", ["a"]),
        ("methods", {}),
        ("modalities", ["audio"]),
        ("modalities", {"audio": "resnet18"}),
        ("fusion", "concat"),
    ],
)
def test_a_recipe_of_more_than_one_run_is_damaged(tmp_path: Path, key: str, value: object) -> None:
    path = write_run(tmp_path, 0.5) / "recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))
    with pytest.raises(DataError, match=rf"recipe\.yaml: damaged \({key}"):
        collect([tmp_path])


def test_damaged_lines_and_arrays_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 0.5)
    (folder / "metrics.jsonl").write_text("{\n")
    (folder / "test_outputs.npz").write_bytes(b"PK\x03\x04 cut short")
    (run,) = collect([tmp_path])
    with pytest.raises(DataError, match=r"metrics\.jsonl: damaged"):
        run.epochs()
    with pytest.raises(DataError, match=r"test_outputs\.npz: damaged"):
        run.outputs()


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("metrics.jsonl", "[]", "line 1: not a JSON object"),
        ("metrics.jsonl", '{"epoch": 0, "lr": 1, "train": {"loss": "low"}}', r"train\.loss: "),
        ("metrics.jsonl", '{"epoch": 0, "lr": 1, "train": {"loss": 1.0}}', r"no val"),
        ("events.jsonl", '{"epoch": 0, "kind": "relearn"}', "no modalities"),
        ("events.jsonl", '{"epoch": 0, "kind": "relearn", "modalities": {"a": {"gap": []}}}', r"no modalities\.a\."),
    ],
)
def test_a_line_that_lacks_what_a_curve_needs_is_named(tmp_path: Path, name: str, line: str, message: str) -> None:
    path = write_run(tmp_path, 0.5) / name
    path.write_text(line + "\n")
    (run,) = collect([tmp_path])
    with pytest.raises(DataError, match=rf"{name}: damaged \({message}"):
        run.epochs() if name == "metrics.jsonl" else run.events()


def test_arrays_that_hold_code_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, 0.5)
    np.savez(folder / "test_outputs.npz", labels=np.array([print], dtype=object))
    with pytest.raises(DataError, match=r"test_outputs\.npz: damaged"):
        collect([tmp_path])[0].outputs()


def test_collecting_imports_no_torch() -> None:
    code = "import sys, drcli.runs.collect, drcli.report.tables; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
