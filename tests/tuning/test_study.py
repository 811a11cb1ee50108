"""Studies: equal trials, the same ones again, whatever is done at once, stopped or failing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.records import epoch_record, failure_record
from support.studies import FakeEngine, KilledError, finish

from drcli.engine.grid import GridResult
from drcli.errors import DamagedError, DataError, RecipeError, RunError, UsageError
from drcli.recipe.schema import Recipe
from drcli.runs.collect import collect
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.records import Failure
from drcli.tuning.result import results
from drcli.tuning.search import Sampler, Values
from drcli.tuning.study import Study, Trial, TrialRecord

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'drcli[tune]'")

Make = Callable[..., Recipe]
METHODS: dict[str, dict[str, Any]] = {"joint": {}, "unimodal": {}, "umt": {}}
DATA = "f" * 64


@dataclass
class Runner(FakeEngine):
    """Its runs fail from the learning rate `diverges` on, with an error of a kind."""

    diverges: float = math.inf
    kind: str = "DivergedError"

    def train(self, run: PlannedRun, files: RunDirectory) -> Failure | None:
        if run.recipe.training.optimizer.lr >= self.diverges:
            files.log_epoch(epoch_record(0))  # of 2 seconds
            return failure_record(f"{run.name} went wrong", name=run.name, seed=run.seed, kind=self.kind)
        finish(run, files)
        return None


@dataclass
class Told:
    """Keeps the trials that are over, in their order."""

    trials: list[tuple[str, int, Values]] = field(default_factory=list)

    def __call__(self, trial: Trial, record: TrialRecord) -> None:
        self.trials.append((trial.label, record.number, trial.values))


def study(
    folder: Path, recipe: Recipe, trials: int = 5, sampler: Sampler = "random", seeds: Sequence[int] = (100, 101)
) -> Study:
    return Study(folder, recipe, list(recipe.methods), trials, seeds, sampler)


def go(one: Study, runner: Runner, at_once: int = 1) -> Told:
    told = Told()
    one.run(DATA, runner, told, at_once)
    return told


def history(one: Study) -> dict[str, list[TrialRecord]]:
    return {label: one.records(label) for label in one.labels}


@pytest.fixture
def recipe(toy_recipe: Make) -> Recipe:
    return toy_recipe(method="joint", methods=METHODS)


def test_every_method_gets_the_same_number_of_trials_the_first_with_the_recipes_own_values(
    recipe: Recipe, tmp_path: Path
) -> None:
    one, runner = study(tmp_path, recipe), Runner()
    told = go(one, runner)
    assert [(label, number) for label, number, _ in told.trials] == [(m, n) for n in range(5) for m in METHODS]
    assert all(values == {} for _, number, values in told.trials if number == 0)
    assert len({json.dumps(values) for _, _, values in told.trials}) == 1 + 4 * len(METHODS)
    assert [len(found.trials) for found in results(one)] == [5, 5, 5]


def test_no_run_of_a_study_may_open_the_test_split_or_has_a_final_seed(recipe: Recipe, tmp_path: Path) -> None:
    runner = Runner()
    go(study(tmp_path, recipe), runner)
    assert {run.opens_test for run in runner.runs} == {False}
    assert {run.seed for run in runner.runs} == {100, 101}


def test_teachers_have_the_values_of_their_method_and_are_counted_in_its_cost(recipe: Recipe, tmp_path: Path) -> None:
    one, runner = study(tmp_path, recipe, trials=2, seeds=(100,)), Runner()
    go(one, runner)
    (trial,) = (record for record in one.records("umt") if record.number == 1)
    rate = trial.values["training.optimizer.lr"]
    taught = [run for run in runner.runs if "umt" in run.folder.parts and run.recipe.training.optimizer.lr == rate]
    assert [run.name for run in taught] == ["unimodal_umt:audio", "unimodal_umt:visual", "umt"]
    assert (trial.seconds, trial.teacher_seconds) == (7.0, 14.0)
    costs = {found.label: found.seconds for found in results(one)}
    assert costs == {"joint": (14.0, 0.0), "unimodal": (28.0, 0.0), "umt": (14.0, 28.0)}


def test_the_score_is_the_mean_over_the_methods_runs_on_validation(recipe: Recipe, tmp_path: Path) -> None:
    one = study(tmp_path, recipe, trials=1)
    go(one, Runner())
    expected = 1 / (1 + math.log10(2))  # the recipe's 0.05
    assert one.records("joint")[0].accuracy == pytest.approx(expected)
    assert one.records("joint")[0].accuracies == pytest.approx({f"joint seed {k}": expected for k in (100, 101)})
    assert list(one.records("unimodal")[0].accuracies or {}) == [
        f"unimodal:{m} seed {k}" for m in ("audio", "visual") for k in (100, 101)
    ]


SLOWLY = pytest.param("tpe", 13, marks=pytest.mark.slow)
"""TPE draws its first ten trials at random."""


@pytest.mark.parametrize(("sampler", "trials"), [("random", 3), SLOWLY])
def test_the_same_study_twice_and_whatever_is_done_at_once_has_the_same_trials(
    sampler: Sampler, trials: int, recipe: Recipe, tmp_path: Path
) -> None:
    found = []
    for at_once in (1, 2, 100):
        one = study(tmp_path / str(at_once), recipe, trials, sampler)
        go(one, Runner(), at_once)
        found.append(history(one))
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_tpe_draws_otherwise_than_random_once_it_knows_enough(recipe: Recipe, tmp_path: Path) -> None:
    pair = [study(tmp_path / name, recipe, 14, name) for name in ("random", "tpe")]
    for one in pair:
        go(one, Runner(), 100)
    drawn = [[record.values for record in one.records("joint")] for one in pair]
    assert drawn[0][12:] != drawn[1][12:]


def test_no_value_depends_on_the_seeds_of_training(recipe: Recipe, tmp_path: Path) -> None:
    pair = [study(tmp_path / str(seed), recipe, seeds=(seed,)) for seed in (7, 8)]
    assert go(pair[0], Runner()).trials == go(pair[1], Runner()).trials


@pytest.mark.parametrize(("sampler", "trials"), [("random", 2), SLOWLY])
@pytest.mark.parametrize("at_once", [1, 5])
def test_a_study_stopped_anywhere_goes_on_as_if_it_had_not_been(
    sampler: Sampler, trials: int, at_once: int, recipe: Recipe, tmp_path: Path
) -> None:
    whole = study(tmp_path / "whole", recipe, trials, sampler, seeds=(100,))
    runner = Runner()
    go(whole, runner)
    for stop in (1, len(runner.runs) // 2, len(runner.runs) - 1):
        one = study(tmp_path / str(stop), recipe, trials, sampler, seeds=(100,))
        with pytest.raises(KilledError):
            go(one, Runner(kill_after=stop), at_once)
        go(one, Runner(), at_once)
        assert history(one) == history(whole)


def test_a_study_that_is_over_runs_nothing_and_more_trials_go_on_where_it_ended(recipe: Recipe, tmp_path: Path) -> None:
    go(study(tmp_path / "a", recipe, 3), Runner())
    again, more, whole = Runner(), Runner(), Runner()
    go(study(tmp_path / "a", recipe, 3), again)
    assert again.runs == []
    go(study(tmp_path / "a", recipe, 6), more)
    go(study(tmp_path / "b", recipe, 6), whole)
    assert history(study(tmp_path / "a", recipe, 6)) == history(study(tmp_path / "b", recipe, 6))
    assert len(more.runs) == len(whole.runs) / 2


@pytest.mark.parametrize("kind", ["DivergedError", "OutOfMemoryError"])
def test_a_trial_that_fails_by_its_values_is_a_bad_one_and_not_the_end(
    kind: str, recipe: Recipe, tmp_path: Path
) -> None:
    one = study(tmp_path, recipe, 6)
    go(one, Runner(diverges=0.1, kind=kind))
    assert one.failed == {}
    for found in results(one):
        assert len(found.trials) == 6
        for trial in found.trials:
            rate = float(trial.values.get("training.optimizer.lr", 0.05))
            assert (trial.accuracy is None) == (trial.failure is not None) == (rate >= 0.1)
            assert trial.seconds > 0  # it cost what it cost
        assert 0 < found.bad < 6
        assert found.best.accuracy is not None


def test_what_the_values_do_not_explain_ends_the_methods_search_and_is_no_trial(
    toy_recipe: Make, tmp_path: Path
) -> None:
    blocks = {"joint": {}, "broken": {"method": "joint", "training": {"optimizer": {"lr": 1000.0}}}}
    recipe = toy_recipe(method="joint", methods=blocks)
    one = study(tmp_path, recipe, 3)
    go(one, Runner(diverges=100.0, kind="KeyError"))
    assert one.failed == {"broken": "broken went wrong"}
    assert [found.label for found in results(one)] == ["joint"]
    assert not (tmp_path / "trials" / "broken").exists()
    going_on = study(tmp_path, recipe, 3)
    go(going_on, Runner())
    assert [len(found.trials) for found in results(going_on)] == [3, 3]


def test_methods_may_be_tuned_in_turn_and_are_found_together(recipe: Recipe, tmp_path: Path) -> None:
    whole = study(tmp_path / "whole", recipe, 3)
    go(whole, Runner())
    for labels in (["umt"], ["joint", "unimodal"]):
        one = Study(tmp_path / "turns", recipe, labels, 3, (100, 101))
        go(one, Runner())
    assert results(one) == results(whole)
    fewer = Study(tmp_path / "turns", recipe, ["joint"], 2, (100, 101))
    assert [len(found.trials) for found in results(fewer)] == [2, 2, 2]


def test_what_a_kill_left_of_the_runs_of_a_trial_that_is_over_is_removed(recipe: Recipe, tmp_path: Path) -> None:
    go(study(tmp_path, recipe, 1), Runner())
    left = tmp_path / "runs" / "joint" / "000" / "toy"
    left.mkdir(parents=True)
    again = Runner()
    go(study(tmp_path, recipe, 1), again)
    assert again.runs == []
    assert not left.exists()


def test_the_runs_of_a_trial_that_is_over_are_removed_and_a_report_sees_none_of_a_study(
    recipe: Recipe, tmp_path: Path
) -> None:
    one, runner = study(tmp_path / "tuned" / "toy", recipe, 1), Runner()
    go(one, runner)
    assert not any(run.folder.exists() for run in runner.runs)
    left = tmp_path / "tuned" / "toy" / "runs" / "joint" / "000" / "toy" / "joint" / "seed100"
    left.mkdir(parents=True)
    (left / "recipe.yaml").write_text("name: toy")
    assert RunDirectory.below(tmp_path) == []
    with pytest.raises(UsageError, match="no run here or below"):
        collect([tmp_path])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": {"epochs": 9, "optimizer": {"name": "sgd", "lr": 0.05}}}, "training.epochs: 4 in the folder, 9"),
        ({"search": {"training": {"optimizer": {"lr": {"low": 0.1, "high": 0.2}}}}}, "search: absent in the folder"),
    ],
)
def test_another_study_in_the_folder_is_refused(
    changed: dict[str, Any], message: str, toy_recipe: Make, recipe: Recipe, tmp_path: Path
) -> None:
    go(study(tmp_path, recipe, 1), Runner())
    with pytest.raises(UsageError, match=message) as caught:
        go(study(tmp_path, toy_recipe(method="joint", methods=METHODS, **changed), 1), Runner())
    assert "choose another --out" in str(caught.value)


def test_other_seeds_sampler_and_data_are_refused_and_other_final_seeds_are_not(
    toy_recipe: Make, recipe: Recipe, tmp_path: Path
) -> None:
    go(study(tmp_path, recipe, 1), Runner())
    with pytest.raises(UsageError, match=r"--tune-seeds: \[100, 101\] in the folder, \[102\] requested"):
        go(study(tmp_path, recipe, 1, seeds=(102,)), Runner())
    with pytest.raises(UsageError, match="--sampler: random in the folder, tpe requested"):
        go(study(tmp_path, recipe, 1, "tpe"), Runner())
    with pytest.raises(DataError, match="begun on other data"):
        study(tmp_path, recipe, 1).run("e" * 64, Runner(), Told(), 1)
    others = Runner()
    go(study(tmp_path, toy_recipe(method="umt", methods=METHODS, seeds=[5, 6]), 1), others)
    assert others.runs == []


def test_a_damaged_trial_is_named_and_one_of_other_values_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    one = study(tmp_path, recipe, 2)
    go(one, Runner())
    path = tmp_path / "trials" / "joint" / "001.json"
    text = path.read_text()
    path.write_text(text.replace('"values": {', '"values": {"other": 1, '))
    with pytest.raises(UsageError, match=r"joint/001\.json: holds a trial of \{other: 1, .*ranges or Optuna are not"):
        go(one, Runner())
    path.write_text(text[:40])
    with pytest.raises(DamagedError, match=r"joint/001\.json: damaged .*; delete the folder to start over"):
        go(one, Runner())


def test_two_processes_cannot_use_one_study(recipe: Recipe, tmp_path: Path) -> None:
    one = study(tmp_path, recipe, 1)

    def meanwhile(runs: Sequence[PlannedRun]) -> GridResult:
        go(study(tmp_path, recipe, 1), Runner())
        raise AssertionError(runs)

    with pytest.raises(RunError, match="another process"):
        one.run(DATA, meanwhile, Told(), 1)


def test_a_range_that_no_trial_could_have_is_refused_when_the_study_is_made(toy_recipe: Make, tmp_path: Path) -> None:
    wrong = {"training": {"batch_size": [16, 0]}}
    with pytest.raises(RecipeError, match="batch_size = 0"):
        study(tmp_path / "none", toy_recipe(method="joint", methods=METHODS, search=wrong))
    assert not (tmp_path / "none").exists()
