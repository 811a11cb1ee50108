"""Several runs at once on one machine: the bits of one after another, whatever happens to a process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.jobs import KILLED, OnWorker
from support.names import toy_names
from support.records import Heard
from support.training import CPU, bits, log

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.engine import jobs
from drcli.engine.cores import Sharing
from drcli.engine.grid import GridResult, run_grid
from drcli.engine.jobs import Waiting, device_of, run_jobs
from drcli.errors import RecipeError
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun, plan
from drcli.watch.events import Listener, RunFinished, RunStarted

TRAINING = {"epochs": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
EXPLODING = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 1e6, "weight_decay": 1e6}}
CUDA = torch.device("cuda")


def recipe(root: Path, **blocks: Any) -> Recipe:
    """A recipe over "toy"; keyword arguments replace its blocks."""
    data = {
        "name": "toy",
        "dataset": {"name": "toy", "root": str(root)},
        "modalities": {m: {"backbone": "tiny"} for m in ("audio", "visual")},
        "method": "joint",
        "methods": {"joint": {}, "unimodal": {}, "uni_pretrained": {}},
        "training": TRAINING,
        **blocks,
    }
    return recipe_from_dict(data, where="the test's recipe")


def runs(root: Path, out: Path) -> list[PlannedRun]:
    """A run that others need is not the first; one explodes; the process of one is killed in its third epoch."""
    return [
        *plan(recipe(root), ["joint", "uni_pretrained"], [0, 1], out),
        *plan(recipe(root, name="toy-exploding", training=EXPLODING), ["joint"], [0], out),
        *plan(recipe(root, name=KILLED), ["joint"], [0], out),
    ]


@dataclass(frozen=True)
class Both:
    """The same runs one after another and two at once, in the folders "one" and "two" below `out`."""

    out: Path
    dataset: PreparedDataset
    runs: list[PlannedRun]
    one: GridResult
    two: GridResult
    heard: Heard

    def folders(self, run: PlannedRun) -> tuple[Path, Path]:
        return self.out / "one" / run.folder.relative_to(self.out / "two"), run.folder


@pytest.fixture(scope="module")
def both(toy_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Both:
    out, dataset, heard = tmp_path_factory.mktemp("jobs"), open_dataset(toy_root), Heard()
    mode = torch.get_deterministic_debug_mode()
    with toy_names():
        one = run_grid(runs(toy_root, out / "one"), dataset, device=CPU, listener=Listener())
        found = runs(toy_root, out / "two")
        two = run_jobs(found, dataset, sharing=Sharing(2, 1), device=CPU, listener=heard, on_worker=OnWorker())
    torch.set_deterministic_debug_mode(mode)
    return Both(out, dataset, found, one, two, heard)


def state(folder: Path) -> dict[str, Any]:
    return {**checkpoint.load(folder / "last.pt"), "seconds": 0}


def assert_same_files(one: Path, two: Path) -> None:
    """All that two runs have left is equal, but for the clock."""
    assert bits(state(one)) == bits(state(two))
    assert log(one / "metrics.jsonl") == log(two / "metrics.jsonl")
    assert bits(checkpoint.load(one / "checkpoint.pt")["model"]) == bits(
        checkpoint.load(two / "checkpoint.pt")["model"]
    )
    summaries = [RunDirectory(folder).summary() for folder in (one, two)]
    first, second = (
        found and found.model_copy(update={"seconds": 0, "teacher_seconds": 0, "cost": None}) for found in summaries
    )
    assert first == second is not None


def test_every_run_has_the_bits_that_it_has_after_another(both: Both) -> None:
    finished = [run for run in both.runs if run.recipe.name == "toy"]
    assert len(finished) == 8
    assert [record.folder for record in both.two.runs] == [run.folder for run in finished]
    for run in finished:
        assert_same_files(*both.folders(run))


def test_two_processes_train_with_their_share_of_threads_and_the_command_of_this_one(both: Both) -> None:
    told = [RunDirectory(record.folder).environment() for record in both.two.runs]
    assert {found.threads for found in told} == {1}
    assert all(found.command == sys.argv for found in told)


def test_a_run_starts_after_those_that_it_needs(both: Both) -> None:
    over = {event.run.folder: place for place, event in enumerate(both.heard.events) if isinstance(event, RunFinished)}
    begun = {event.run.folder: place for place, event in enumerate(both.heard.events) if isinstance(event, RunStarted)}
    dependent = [run for run in both.runs if run.teachers]
    assert len(dependent) == 2
    for run in dependent:
        assert max(over[folder] for folder in run.teachers.values()) < begun[run.folder]


def test_a_run_that_fails_fails_alone_and_as_it_does_after_another(both: Both) -> None:
    exploded, _ = both.two.failed
    (alone,) = both.one.failed
    assert exploded.message == alone.message.replace(str(both.out / "one"), str(both.out / "two"))
    assert both.two.exit_code == both.one.exit_code == 1
    assert sorted(both.heard.failed) == sorted(f"joint: {failure}" for failure in both.two.failed)


def test_a_killed_process_takes_one_run_with_it_which_is_resumed_to_the_same_bits(both: Both, toy: None) -> None:
    _, killed = both.two.failed
    run = both.runs[-1]
    assert killed.message == (
        f"{run.folder}: the process that trained this run was ended by SIGKILL (out of memory?); every finished epoch "
        "is saved; repeat the command to resume"
    )
    heard = Heard()
    assert run_grid([run], both.dataset, device=CPU, listener=heard).failed == []
    assert 0 < heard.started[0].first_epoch < 4
    assert_same_files(*both.folders(run))


def test_what_is_finished_starts_no_process(both: Both, toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.Crew, "_start", None)
    heard = Heard()
    done = [run for run in both.runs if run.recipe.name == "toy"]
    again = run_jobs(done, both.dataset, sharing=Sharing(2, 1), device=CPU, listener=heard)
    assert again.runs == both.two.runs
    assert {event.stored for event in heard.finished} == {True}


def test_another_recipe_in_a_folder_ends_the_grid_before_a_process_starts(
    both: Both, toy: None, toy_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.Crew, "_start", None)
    other = plan(recipe(toy_root, training={**TRAINING, "batch_size": 20}), ["joint"], [0], both.out / "two")
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        run_jobs(other, both.dataset, sharing=Sharing(2, 1), device=CPU, listener=Listener())


def test_a_run_waits_for_its_teachers_even_if_they_fail(toy_recipe: Callable[..., Recipe]) -> None:
    found = plan(
        toy_recipe(method="joint", methods={"joint": {}, "uni_pretrained": {}}),
        ["joint", "uni_pretrained"],
        [0],
        Path("runs"),
    )
    waiting = Waiting(found)
    taken = [waiting.take() for _ in range(4)]
    assert [run and run.name for run in taken] == ["unimodal:audio", "unimodal:visual", "joint", None]
    waiting.end(found[1])
    assert waiting.take() is None
    waiting.end(found[2])
    assert waiting.take() == found[3]
    assert waiting.runs == []


def test_of_several_gpus_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [device_of(number, CUDA).index for number in range(6)] == [0, 1, 2, 3, 0, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert device_of(3, CUDA) == CUDA
    assert device_of(3, CPU) == CPU
