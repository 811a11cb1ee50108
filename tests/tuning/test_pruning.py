"""Trials that are stopped: the median rule by hand, the same for every method, the same again after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.records import epoch_record, failure_record
from support.studies import FakeEngine, KilledError, accuracy_of, finish
from support.training import CPU, planned

from drcli.data.prepared import PreparedDataset
from drcli.engine.grid import GridResult
from drcli.engine.run import execute
from drcli.errors import StoppedError, UsageError
from drcli.recipe.schema import Recipe
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.records import Failure
from drcli.runs.scores import ScoresAndLoss
from drcli.tuning.pruning import floors
from drcli.tuning.result import Tuned, tables
from drcli.tuning.study import Study, Trial, TrialRecord, outcome
from drcli.watch.events import Listener

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'drcli[tune]'")

Make = Callable[..., Recipe]
METHODS: dict[str, dict[str, Any]] = {"joint": {}, "ensemble": {}, "umt": {}}


# The rule


def test_the_floor_is_the_median_of_the_best_so_far_by_hand() -> None:
    """Best so far after epochs 0 to 3: .1 .4 .4 .5 / .2 .2 .3 .9 / .3 .3 .3 .3 (stopped) / 0 0 0 0 (failed)."""
    earlier = [[0.1, 0.4, 0.2, 0.5], [0.2, 0.1, 0.3, 0.9], [0.3], []]
    assert floors(earlier, 4) == pytest.approx((0.15, 0.25, 0.3, 0.0))


@pytest.mark.parametrize(
    ("epochs", "first", "last"), [(1, None, None), (2, 0, 0), (4, 0, 2), (5, 1, 3), (20, 4, 18), (21, 5, 19)]
)
def test_the_first_quarter_of_the_epochs_and_the_last_one_stop_nothing(
    epochs: int, first: int | None, last: int | None
) -> None:
    stopping = [epoch for epoch, floor in enumerate(floors([[0.5]] * 4, epochs)) if floor > 0]
    assert (stopping[:1], stopping[-1:]) == (([first], [last]) if first is not None else ([], []))


def test_with_fewer_than_four_earlier_trials_nothing_is_stopped() -> None:
    assert floors([[0.5] * 9] * 3, 9) == ()


# A study


REST: dict[str, Any] = {"macro_f1": 0.5, "n": 24, "loss": 1.0}


@dataclass
class Runner(FakeEngine):
    """Its accuracies rise from epoch to epoch; a run that is below a floor ends as the engine would end it."""

    def train(self, run: PlannedRun, files: RunDirectory) -> Failure | None:
        if files.summary() is not None:
            return None
        files.truncate(0)  # what a kill left
        for epoch in range(run.epochs):
            accuracy = accuracy_of(run) * (epoch + 1) / run.epochs
            files.log_epoch(epoch_record(epoch, val=ScoresAndLoss(accuracy=accuracy, **REST)))
            if run.floors and accuracy < run.floors[epoch]:
                return failure_record("behind", name=run.name, seed=run.seed, kind="StoppedError")
        finish(run, files)
        return None


def go(one: Study, runner: Runner, at_once: int = 1) -> None:
    def told(trial: Trial, record: TrialRecord) -> None:
        del trial, record

    one.run("f" * 64, runner, told, at_once)


@pytest.fixture
def recipe(toy_recipe: Make) -> Recipe:
    return toy_recipe(method="joint", methods=METHODS)


def study(folder: Path, recipe: Recipe, trials: int = 7, *, prune: bool = True) -> Study:
    return Study(folder, recipe, list(recipe.methods), trials, (100,), "random", prune)


def history(one: Study) -> list[TrialRecord]:
    return [record for label in one.labels for record in one.records(label)]


def test_trials_that_are_behind_are_stopped_and_count_with_what_they_reached(recipe: Recipe, tmp_path: Path) -> None:
    one, runner = study(tmp_path, recipe), Runner()
    go(one, runner)
    records = one.records("joint")
    stopped = [record for record in records if record.stopped is not None]
    assert stopped
    assert all(record.number >= 4 and record.failure is None for record in stopped)
    for record in stopped:
        assert record.stopped is not None
        assert record.curves is not None
        assert record.accuracy == record.curves["joint seed 100"][record.stopped - 1]
        assert record.accuracy < max(other.merit for other in records)
    assert one.failed == {}
    found = Tuned("joint", records, one.own("joint"))
    assert found.stopped == len(stopped)
    assert found.bad == 0
    assert found.best.stopped is None
    (row,) = tables(one, [found])[0].rows
    assert row[list(tables(one, [found])[0].columns).index("stopped")] == str(len(stopped))


@pytest.mark.parametrize(("selection", "counted"), [("val", 0.9), ("last", 0.2)])
def test_a_stopped_trial_counts_with_the_epoch_that_the_recipe_would_select(
    toy_recipe: Make, selection: str, counted: float, tmp_path: Path
) -> None:
    """By its best epoch it would win over trials that were trained to an end of their own."""
    run = planned(toy_recipe(method="joint", selection=selection), tmp_path)
    files = RunDirectory(run.folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    for epoch, accuracy in enumerate((0.9, 0.2)):
        files.log_epoch(epoch_record(epoch, val=ScoresAndLoss(accuracy=accuracy, **REST)))
    files.write_failure(failure_record("behind", name=run.name, seed=run.seed, kind="StoppedError"))
    record = outcome(Trial("joint", 4, {}, tmp_path, [run]), GridResult([]))
    assert isinstance(record, TrialRecord)
    assert (record.accuracy, record.stopped) == (counted, 2)


def test_teachers_and_methods_that_take_no_steps_are_never_stopped(recipe: Recipe, tmp_path: Path) -> None:
    runner = Runner()
    go(study(tmp_path, recipe), runner)
    with_floors = {run.name for run in runner.runs if run.floors}
    assert with_floors == {"joint", "umt"}


@pytest.mark.parametrize(
    "at_once", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]
)
def test_neither_a_kill_nor_what_runs_at_once_changes_which_trials_are_stopped(
    at_once: int, toy_recipe: Make, tmp_path: Path
) -> None:
    recipe = toy_recipe(method="joint", methods={"joint": {}, "ogm": {}})
    whole, runner = study(tmp_path / "whole", recipe), Runner()
    go(whole, runner)
    one = study(tmp_path / "one", recipe)
    for stop in (len(runner.runs) // 2, 3):
        with pytest.raises(KilledError):
            go(one, Runner(kill_after=stop), at_once)
    go(one, Runner(), at_once)
    assert history(one) == history(whole)


def test_without_it_nothing_is_stopped_and_a_study_of_the_other_kind_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    one = study(tmp_path, recipe, 5, prune=False)
    go(one, Runner())
    assert {(record.stopped, record.curves) for record in history(one)} == {(None, None)}
    assert "stopped" not in tables(one, [Tuned("joint", one.records("joint"), {})])[0].columns
    with pytest.raises(UsageError, match="--prune: false in the folder, true requested"):
        go(study(tmp_path, recipe, 5), Runner())


# A run


@pytest.mark.slow
def test_a_run_that_is_behind_ends_before_its_next_epoch_and_again_where_it_is_resumed(
    toy_recipe: Make, toy_dataset: PreparedDataset, tmp_path: Path
) -> None:
    training = {"epochs": 4, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.05}}
    run = replace(planned(toy_recipe(method="joint", training=training), tmp_path), floors=(0.0, 1.01, 0.0, 0.0))
    for _ in range(2):
        with pytest.raises(StoppedError, match=r"stopped after 2 epochs: .* median of earlier trials 101\.0 %"):
            execute(run, toy_dataset, device=CPU, listener=Listener())
        files = RunDirectory(tmp_path)
        assert len(files.epochs()) == 2
        failure = files.failure()
        assert failure is not None
        assert failure.kind == "StoppedError"
