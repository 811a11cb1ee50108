"""Unimodal runs that other methods start from: trained once, before them, and never another's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import CPU, bits

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine import grid
from drcli.engine.assemble import restore
from drcli.engine.evaluate import evaluate_split, run_split
from drcli.engine.grid import GridResult, run_grid
from drcli.engine.run import execute
from drcli.errors import DataError, RunError
from drcli.recipe.schema import Recipe
from drcli.runs.planned import plan
from drcli.watch.events import Listener

METHODS = {
    "joint": {},
    "ensemble": {},
    "uni_frozen": {"method": "uni_pretrained", "encoders": "frozen"},
    "uni_finetuned": {"method": "uni_pretrained"},
}
SHORT = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}


@pytest.fixture
def recipe(toy_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(methods: dict[str, Any] = METHODS, **blocks: Any) -> Recipe:
        return toy_recipe(**{"method": "joint", "methods": methods, "training": SHORT, **blocks})

    return make


def train(recipe: Recipe, labels: list[str], data: PreparedDataset, out: Path) -> GridResult:
    return run_grid(plan(recipe, labels, [0], out), data, device=CPU, listener=Listener())


def names(recipe: Recipe, labels: list[str], seeds: tuple[int, ...] = (0,)) -> list[str]:
    return [f"{run.name} {run.seed}" for run in plan(recipe, labels, seeds, Path("runs"))]


def test_unimodal_runs_come_before_the_methods_that_need_them(recipe: Callable[..., Recipe]) -> None:
    unimodal = ["unimodal:audio 0", "unimodal:visual 0"]
    assert names(recipe(), ["joint", "ensemble"]) == ["joint 0", *unimodal, "ensemble 0"]
    assert names(recipe(), ["ensemble", "uni_frozen"]) == [*unimodal, "ensemble 0", "uni_frozen 0"]


def test_a_label_of_unimodal_training_is_used_whatever_its_name(recipe: Callable[..., Recipe]) -> None:
    named = recipe({"alone": {"method": "unimodal"}, **METHODS})
    assert names(named, ["ensemble", "alone"]) == ["alone:audio 0", "alone:visual 0", "ensemble 0"]
    taken = recipe({**METHODS, "unimodal": {"method": "joint"}})
    assert names(taken, ["unimodal", "ensemble"]) == [
        "unimodal 0",
        "unimodal_:audio 0",
        "unimodal_:visual 0",
        "ensemble 0",
    ]


def test_a_method_starts_from_the_unimodal_runs_of_its_own_seed(recipe: Callable[..., Recipe]) -> None:
    runs = {(run.name, run.seed): run for run in plan(recipe(), ["ensemble"], [0, 3], Path("runs"))}
    for seed in (0, 3):
        assert runs["ensemble", seed].teachers == {m: runs[f"unimodal:{m}", seed].folder for m in ("audio", "visual")}
    assert runs["unimodal:audio", 0].teachers == {}


def test_unimodal_runs_have_a_linear_head_whatever_the_fusion_is(recipe: Callable[..., Recipe]) -> None:
    runs = {run.name: run for run in plan(recipe(fusion="film"), ["ensemble", "joint"], [0], Path("runs"))}
    assert runs["unimodal:audio"].recipe.fusion.name == "concat"
    assert runs["joint"].recipe.fusion.name == runs["ensemble"].recipe.fusion.name == "film"


def test_unimodal_runs_are_trained_once_and_shared(
    recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = train(recipe(), ["ensemble", "uni_frozen", "uni_finetuned"], toy_dataset, tmp_path).runs
    by_name = {run.name: run.done for run in done}
    assert len(done) == len(by_name) == 5
    teachers = by_name["unimodal:audio"].seconds + by_name["unimodal:visual"].seconds
    assert by_name["ensemble"].teacher_seconds == pytest.approx(teachers)
    assert by_name["unimodal:audio"].teacher_seconds == 0.0
    assert by_name["ensemble"].all_seconds == pytest.approx(teachers + by_name["ensemble"].seconds)
    assert (by_name["ensemble"].epochs, by_name["uni_frozen"].epochs) == (0, 2)
    again: list[str] = []

    def noted(run: Any, *args: Any, **rest: Any) -> Any:
        again.append(run.name)
        return execute(run, *args, **rest)

    monkeypatch.setattr(grid, "execute", noted)
    assert train(recipe(), ["uni_frozen"], toy_dataset, tmp_path).runs[-1].done == by_name["uni_frozen"]
    assert again == ["unimodal:audio", "unimodal:visual", "uni_frozen"]  # looked at, and stored already


def test_methods_start_from_the_encoders_of_the_unimodal_runs(
    recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    train(recipe(), ["ensemble", "uni_frozen"], toy_dataset, tmp_path)
    folder = tmp_path / "toy"
    alone = {
        m: checkpoint.load(folder / "unimodal" / m / "seed0" / "checkpoint.pt")["model"] for m in ("audio", "visual")
    }
    for label in ("ensemble", "uni_frozen"):
        state = checkpoint.load(folder / label / "seed0" / "checkpoint.pt")["model"]
        for m, taught in alone.items():
            encoder = {k: v for k, v in taught.items() if k.startswith(f"encoders.{m}.")}
            assert bits({k: state[k] for k in encoder}) == bits(encoder)


def test_an_ensemble_is_evaluated_from_its_checkpoint_alone(
    recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    run = train(recipe(), ["ensemble"], toy_dataset, tmp_path).runs[-1]
    parts = [
        run_split(restore(tmp_path / "toy" / "unimodal" / m / "seed0" / "checkpoint.pt", CPU).assembly, "test")
        for m in ("audio", "visual")
    ]
    restored = restore(run.files.checkpoint, CPU)
    found = evaluate_split(restored.assembly, "test")
    mean = torch.stack([part.logits.softmax(dim=1) for part in parts]).mean(dim=0)
    torch.testing.assert_close(found.outputs.logits.exp(), mean, rtol=1e-4, atol=1e-6)
    assert found.outputs.scores().to_dict() == run.done.test.to_dict()
    assert found.probes == run.done.unimodal


def test_other_teachers_than_a_run_was_started_from_are_refused(
    recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    train(recipe(), ["uni_frozen"], toy_dataset, tmp_path)
    folder = tmp_path / "toy"
    (folder / "uni_frozen" / "seed0" / "summary.json").unlink()
    environment = folder / "uni_frozen" / "seed0" / "environment.json"
    noted = json.loads(environment.read_text())
    assert set(noted["weights"]) == {"teacher audio", "teacher visual"}
    environment.write_text(json.dumps({**noted, "weights": {**noted["weights"], "teacher audio": "0" * 64}}))
    (failure,) = train(recipe(), ["uni_frozen"], toy_dataset, tmp_path).failed
    assert "started from other pre-trained weights" in failure.message
    assert failure.exit_code == DataError.exit_code


def test_where_a_unimodal_run_fails_those_that_need_it_say_so(
    recipe: Callable[..., Recipe], toy_dataset: PreparedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    def failing(run: Any, *args: Any, **rest: Any) -> Any:
        if run.name == "unimodal:visual":
            raise RunError("visual went wrong")
        return execute(run, *args, **rest)

    monkeypatch.setattr(grid, "execute", failing)
    result = train(recipe(), ["joint", "ensemble"], toy_dataset, tmp_path)
    assert [run.label for run in result.runs] == ["joint", "unimodal"]
    assert result.failed[0].message == "visual went wrong"
    assert "unimodal/visual/seed0: this unimodal run is needed first" in result.failed[1].message
