"""The benchmarks run in a tiny form, print their table and write their numbers; no time is asserted."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from drcli.data.prepared import open_dataset
from drcli.names import DATASETS
from drcli.recipe.load import load_recipe
from drcli.recipe.shipped import find_recipe

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SMALL = ("modalities.audio.backbone=resnet_small", "modalities.visual.backbone=resnet_small")
TINY = (*SMALL, "modalities.visual.size=16", "training.batch_size=8", "training.data=resident")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other from the root of the checkout, and add it to the path themselves."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.setattr(sys, "argv", ["benchmark"])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the digits, prepared."""
    root = tmp_path_factory.mktemp("data") / "digits"
    preparer = DATASETS.load("digits")
    preparer(preparer.Settings(draws=2)).run(source=None, out=root, limit=120)
    return root


def numbers(script: str, *arguments: object, folder: Path) -> dict[str, Any]:
    """What a benchmark writes as JSON."""
    path = folder / "found.json"
    import_module(f"benchmarks.{script}").main([*map(str, arguments), "--device", "cpu", "--json", str(path)])
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert found["machine"]["device"] == "cpu"
    assert found["machine"]["threads"] == torch.get_num_threads()
    return found


def of(digits: Path) -> tuple[str, ...]:
    return (f"dataset.root={digits}", "dataset.prepare.draws=2")


@pytest.mark.slow
def test_throughput_holds_every_variant_against_the_conventional_loop(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["conventional", "conventional bf16", "conventional files only", "drcli", "drcli data=stream"]
    options = ("--dataset", "digits", "--workers", 0, "--warmup", 0, "--repeats", 2, "--variants", ",".join(names))
    found = numbers("throughput", *options, *of(digits), folder=tmp_path)
    assert [one["name"] for one in found["results"]] == names
    conventional, *others = found["results"]
    assert conventional["faster"] == 1.0
    rows = open_dataset(digits).info.rows["train"]
    for one in found["results"]:
        assert len(one["repeats"]) == 2
        assert (one["accuracy"] is None) == ("files only" in one["name"])
        assert one["clips_per_second"] * one["seconds"] == pytest.approx(rows)
    for one in others:
        pairs = [c / o for c, o in zip(conventional["repeats"], one["repeats"], strict=True)]
        assert one["faster"] == pytest.approx(sum(pairs) / 2)
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)


@pytest.mark.slow
def test_throughput_makes_arrays_of_cremads_form(tmp_path: Path) -> None:
    options = ("--dataset", "cremad-size", "--clips", 12, "--workers", 0, "--warmup", 0, "--repeats", 1)
    variants = ("--variants", "conventional channels_last,drcli", "--scratch", tmp_path)
    found = numbers("throughput", *options, *variants, *TINY, folder=tmp_path)
    assert [one["faster"] for one in found["results"]] == [None, None]  # nothing to compare with was asked for
    assert {path.name for path in tmp_path.iterdir()} == {"found.json"}  # scratch files are gone


def test_an_unknown_variant_is_refused_with_those_that_there_are(digits: Path) -> None:
    main = import_module("benchmarks.throughput").main
    with pytest.raises(SystemExit, match=r"--variants: 'fast' is not one of conventional, .*drcli data=stream"):
        main(["--device", "cpu", "--variants", "fast", *of(digits)])


def test_the_conventional_loop_reads_the_inputs_that_ours_makes(digits: Path, tmp_path: Path) -> None:
    conventional, ours = import_module("benchmarks.conventional"), import_module("benchmarks.ours")
    recipe = load_recipe(find_recipe("digits"), of(digits)).for_run("joint", 0)
    dataset = open_dataset(digits)
    rows = conventional.export(recipe, dataset, tmp_path / "files", ("visual",))
    (tmp_path / "run").mkdir()
    batches = ours.Ours(recipe, dataset, CPU, tmp_path / "run").trainer.ctx.train
    batch = batches.take(torch.arange(len(batches)))
    assert rows["train"].labels == batch.labels.tolist()
    read = [rows["train"][row][0] for row in range(len(batches))]
    for m, exact in {"audio": 1e-5, "visual": 0.02}.items():  # pictures have 8 bits
        difference = torch.stack([inputs[m] for inputs in read]) - batch.inputs[m]
        assert difference.abs().max() < exact


def test_the_conventional_loop_crops_and_flips_frames_in_training_only(tmp_path: Path) -> None:
    conventional, generated = import_module("benchmarks.conventional"), import_module("benchmarks.generated")
    ours = import_module("benchmarks.ours")
    recipe = load_recipe(find_recipe("cremad"), TINY).for_run("joint", 0)
    dataset = generated.make(tmp_path / "arrays", generated.cremad_like(12, "stft", {}))
    rows = conventional.export(recipe, dataset, tmp_path / "files", ("visual",))
    (tmp_path / "run").mkdir()
    batches = ours.Ours(recipe, dataset, CPU, tmp_path / "run").trainer.ctx.val
    theirs = torch.stack([rows["val"][row][0]["visual"] for row in range(4)])
    assert theirs.shape == (4, 2, 3, 16, 16)
    assert (theirs - batches.take(torch.arange(4)).inputs["visual"]).abs().max() < 0.15  # JPEG
    torch.manual_seed(0)
    assert not torch.equal(rows["train"][0][0]["visual"], rows["train"][0][0]["visual"])


def test_compute_only_gives_the_share_of_a_resident_batch(digits: Path, tmp_path: Path) -> None:
    found = numbers("compute_only", "--warmup", 0, "--repeats", 1, "--side", 64, *of(digits), folder=tmp_path)
    assert found["share_of_pass"] == pytest.approx(found["steps"] / found["training_pass"])
    assert found["share_of_epoch"] == pytest.approx((found["steps"] + found["forward"]) / found["epoch"])
    assert found["share_of_peak"] == pytest.approx(found["rate"] / found["peak"])
    assert found["operations"] > 1e6
    shares = [one["share"] for one in found["operators"]]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    assert any("conv" in one["name"] for one in found["operators"][:3])


@pytest.mark.slow
def test_diagnosis_projects_the_whole_run_from_a_short_one(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers("diagnosis", "--epochs", 3, "--repeats", 1, *of(digits), folder=tmp_path)
    (run,) = found["runs"]
    assert run["schedule"] == {"epochs": 3, "events": 1}
    assert (found["whole"]["epochs"], found["whole"]["events"]) == (60, 3)
    epochs = run["first"] + 59 * run["epoch"]
    whole = run["start"] + run["compilation"] + epochs + 3 * run["event"] + run["finish"]
    assert found["whole"]["seconds"] == pytest.approx(whole)
    assert found["diagnosis_share"] == pytest.approx(3 * run["event"] / (epochs + 3 * run["event"]))
    assert all(run["parts"][name] > 0 for name in ("evaluation", "K-means and purity", "test", "probes", "files"))
    assert "whole run, projected" in capsys.readouterr().out


@pytest.mark.slow
def test_cremad_size_runs_without_an_event_and_says_that_it_was_not_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = numbers("cremad_size", "--clips", 12, "--epochs", 1, "--scratch", tmp_path, *TINY, folder=tmp_path)
    assert found["clips"] == {"train": 12, "val": 12, "test": 12}
    assert found["bytes"] == 36 * (6 * 3 * 256 * 340 + 2 * 257 * 188)
    assert found["projected"]
    assert found["seconds"] is None
    assert found["run"]["schedule"] == {"epochs": 1, "events": 0}
    assert "not measured" in capsys.readouterr().out


def test_cremad_size_refuses_where_there_is_no_room(tmp_path: Path) -> None:
    main = import_module("benchmarks.cremad_size").main
    with pytest.raises(SystemExit, match=r"[\d.]+ GB and some to spare are needed, .* free; take fewer with --clips"):
        main(["--device", "cpu", "--clips", str(10**8), "--scratch", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_scaling_varies_one_number_in_a_process_of_its_own(tmp_path: Path) -> None:
    options = ("--axes", "modalities", "--sizes", "3", "--size", 8, "--epochs", 3, "--repeats", 1)
    found = numbers("scaling", *options, folder=tmp_path)
    assert [one["case"]["modalities"] for one in found["results"]] == [3]
    assert all(one["process"] > 0 and one["device"] is None for one in found["results"])


def test_kmeans_holds_ours_against_scikit_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = import_module("benchmarks.kmeans")
    monkeypatch.setattr(script, "CASES", (script.Case("small", 200, 3, 1.0),))
    found = numbers("kmeans", "--repeats", 2, "--seeds", 3, folder=tmp_path)["results"]
    assert [one["engine"] for one in found] == ["drcli, cpu", "scikit-learn, 1 thread", "scikit-learn, all cores"]
    assert [len(one["repeats"]) for one in found] == [2, 2, 2]
    ours, one_thread, every_core = found
    assert ours["inertia"] == pytest.approx(one_thread["inertia"], rel=0.01)
    assert 1 / 3 < ours["purity"] <= 1.0
    assert (every_core["inertia"], every_core["purity"]) == (None, None)


def test_diagnosis_scale_holds_samples_against_all_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--rows", 300, "--width", 8, "--classes", 3, "--samples", 60, 300, "--seeds", 1, "--batches", 1)
    found = numbers("diagnosis_scale", *sizes, folder=tmp_path)
    whole, part, same = found["samples"]
    assert (whole["sample"], part["sample"], same["sample"]) == (None, 60, 300)
    assert whole["purity_error"] == same["purity_error"] == same["gap_error"] == 0.0  # a sample of all rows is all rows
    assert part["purity_error"] == pytest.approx(abs(part["purity"] - whole["purity"]))
    assert part["gap_error"] == pytest.approx(abs(part["gap"] - whole["gap"]))
    assert whole["share"] is None
    assert part["share"] > 0
    assert found["cost"]["width"] == 64
    assert "share of an event" in capsys.readouterr().out


def test_start_check_holds_a_start_against_reading_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.writing.allocation.LARGEST_FILE", 10**9)  # which the script changes
    monkeypatch.setattr("drcli.data.verified.LARGE", 10**9)
    sizes = ("--gb", 0.001, "--clips", 2000, "--files", 5, "--repeats", 1, "--folder", tmp_path)
    found = numbers("start_check", *sizes, folder=tmp_path)
    assert sum(found["rows"].values()) == 2000
    assert found["files"] == 4 + 1 + 1 + 6  # of train 1382 rows in files of 400
    names = ["read everything", "first start", "later start", "later start, in memory"]
    assert [len(found["taken"][name]) for name in names] == [1] * 4
    assert "later start" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_probes_holds_ours_against_scikit_learn_at_an_equal_optimum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, kmeans = import_module("benchmarks.probes"), import_module("benchmarks.kmeans")
    cases = (kmeans.Case("small", 200, 3, 1.0), kmeans.Case("left out", 200, 3, 1.0))
    monkeypatch.setattr(script, "CASES", cases)
    monkeypatch.setattr(kmeans, "WIDTH", 16)
    ours, theirs = numbers("probes", "--repeats", 2, "--cases", "small", folder=tmp_path)["results"]
    assert [ours["engine"], theirs["engine"]] == ["drcli, cpu", "scikit-learn"]
    for one in (ours, theirs):
        assert one["case"] == "small"
        assert len(one["repeats"]) == 2
        assert one["distance"]["weights"] <= script.WEIGHTS
        assert one["distance"]["probabilities"] <= script.PROBABILITIES
    shown = capsys.readouterr().out
    assert "small: 200 x 16, 3 classes" in shown
    assert "left out" not in shown


def test_works_take_turns_and_ratios_are_those_of_a_turn() -> None:
    measuring = import_module("benchmarks.measuring")
    order: list[str] = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = measuring.in_turns(works, CPU, warmup=1, repeats=2, say=False)
    assert order == ["a", "b"] * 3
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2}
    assert measuring.ratio([2.0, 8.0, 3.0], [1.0, 2.0, 3.0]) == 2.0  # of 2, 4 and 1


@pytest.mark.parametrize(("limit", "counted"), [(None, 5), (1000, 5), (30, 2), (25, 1), (0, 1)])
def test_no_turn_begins_that_would_end_after_the_limit(
    limit: float | None, counted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn takes 10 s, the one that warms up too: the third ends after 30 s, the second that counts."""
    measuring = import_module("benchmarks.measuring")
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(measuring, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))

    def work() -> None:
        clock.seconds += 10

    seconds = measuring.in_turns({"a": work}, CPU, warmup=1, repeats=5, say=False, limit=limit)
    assert seconds == {"a": [10.0] * counted}


def test_made_up_arrays_are_kept_for_the_next_benchmark_of_their_size(tmp_path: Path) -> None:
    datasets, generated = import_module("benchmarks.datasets"), import_module("benchmarks.generated")
    spec = import_module("data_prep.writing.rows").ArraySpec((1, 4, 4), "float16")
    root = tmp_path / "kept" / "arrays"
    marks = []
    for rows in (12, 12, 15):
        made = generated.Made("generated", 3, {"train": rows, "val": 12, "test": 12}, {"m": spec})
        dataset = datasets.made_or_kept(root, made, tmp_path)
        assert dict(dataset.info.rows) == dict(made.rows)
        marks.append((root / "dataset.json").stat().st_mtime_ns)
    assert marks[0] == marks[1] < marks[2]


@pytest.mark.slow
def test_side_by_side_trains_the_same_grid_with_any_number_at_once(tmp_path: Path) -> None:
    options = ("--runs", 2, "--at-once", "1,2", "--epochs", 3, "--size", 8, "--clips", 32)
    found = numbers("side_by_side", *options, folder=tmp_path)["results"]
    assert [one["at_once"] for one in found] == [1, 2]
    assert found[0]["same_bits"]
    assert found[0]["faster"] == 1.0
    assert found[1]["faster"] == pytest.approx(found[0]["seconds"] / found[1]["seconds"])


@pytest.mark.slow
def test_runs_at_once_are_those_of_one_after_another(digits: Path, tmp_path: Path) -> None:
    small = ("--method", "joint", "--seeds", "0,1", "--epochs", 1, "--repeats", 1)
    found = numbers("jobs", *small, *of(digits), folder=tmp_path)
    assert found["runs"] == 2
    one, two = found["seconds"]["one after another"], found["seconds"]["2 at once"]
    assert found["ratio"] == pytest.approx(one[0] / two[0])


def test_a_short_run_of_the_costs_of_methods_has_its_share_of_what_happens_in_a_whole_run() -> None:
    methods = import_module("benchmarks.methods")
    recipe = load_recipe(find_recipe("digits"), ["training.epochs=60"])

    def of(label: str) -> Any:
        return methods.shortened(recipe, label, 20).methods[label]

    assert methods.shortened(recipe, "joint", 20).training.epochs == 20
    assert (of("diagnose_relearn").settings.every, of("diagnose_relearn").settings.times) == (10, 1)
    assert (of("multi_loss_dr").relearn.every, of("multi_loss_dr").relearn.times) == (10, 1)
    assert of("g_blending").settings.super_epoch == 10
    assert of("aug").settings.every == 6  # null: a tenth of 60
    assert of("agm").settings.ends == 6  # 19
    assert recipe.methods["agm"].settings.model_dump()["ends"] == 19


@pytest.mark.slow
def test_costs_of_methods_count_the_rows_that_enter_encoders(digits: Path) -> None:
    methods = import_module("benchmarks.methods")
    small = (*SMALL, f"dataset.root={digits}", "dataset.prepare.draws=2", "training.batch_size=8", "training.epochs=2")
    recipe = load_recipe(find_recipe("digits"), list(small))
    labels = ("joint", "unimodal", "uni_frozen", "agm")
    found = methods.measure(replace(recipe, methods={k: recipe.methods[k] for k in labels}), 2, 1, CPU)
    assert set(found) == {"joint", "unimodal:audio", "unimodal:visual", "uni_frozen", "agm"}
    assert found["joint"]["relative"] == 1
    assert [found[name]["passes_trained"] for name in ("joint", "unimodal:audio", "uni_frozen", "agm")] == [1, 1, 0, 3]
    assert "modulate" in found["agm"]["seams"]
