"""What the user sees of runs that train at once."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.records import epoch_record, failure_record, summary_record

from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun, plan
from drcli.watch.console import GridConsole, run_line
from drcli.watch.events import EpochFinished, Note, RunFailed, RunFinished, RunStarted

SUMMARY = summary_record(probes={"audio": 0.7})


@pytest.fixture
def runs(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> list[PlannedRun]:
    """Joint training for 4 epochs with seeds 3 and 5."""
    return plan(toy_recipe(), ["joint"], [3, 5], tmp_path)


def listen(*, terminal: bool) -> tuple[GridConsole, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=120, color_system=None, height=40)
    return GridConsole(console, total=2), stream


def test_without_a_terminal_a_look_at_a_run_is_one_line(runs: list[PlannedRun]) -> None:
    console, stream = listen(terminal=False)
    console.on(EpochFinished(runs[0], epoch_record(1)))
    console.on(Note("joint seed 5: resumed at epoch 2"))
    console.on(RunFailed(runs[1], failure_record("joint/seed5: out of memory")))
    console.on(RunFinished(runs[0], SUMMARY, False))
    console.close()
    assert stream.getvalue().splitlines() == [
        "toy: joint seed 3, epochs 2 / 4, train loss 1.2346, val loss 0.9877, val acc 62.5 %",
        "joint seed 5: resumed at epoch 2",
        "failed: joint/seed5: out of memory",
        run_line(runs[0], SUMMARY, stored=False),
    ]


def test_a_run_of_a_trial_that_was_behind_is_finished_and_no_failure(runs: list[PlannedRun]) -> None:
    console, stream = listen(terminal=True)
    console.on(RunFailed(runs[0], failure_record("stopped after 2 epochs", kind="StoppedError")))
    assert console.table().caption == "1 of 2 runs finished"
    console.close()
    assert "stopped after 2 epochs" in stream.getvalue()
    assert "failed" not in stream.getvalue()


def test_on_a_terminal_the_table_holds_the_runs_that_train(runs: list[PlannedRun]) -> None:
    console, stream = listen(terminal=True)
    for number, run in enumerate(runs):
        console.on(EpochFinished(run, epoch_record(number)))
    assert cells(console) == [["toy: joint", "toy: joint"], ["3", "5"], ["1 / 4", "2 / 4"]]
    console.on(RunFinished(runs[0], SUMMARY, True))
    assert cells(console) == [["toy: joint"], ["5"], ["2 / 4"]]
    assert console.table().caption == "1 of 2 runs finished"
    console.on(RunFailed(runs[1], failure_record("out of memory")))
    assert cells(console) == [[], [], []]
    assert console.table().caption == "1 of 2 runs finished, 1 failed"
    console.close()
    console.close()
    assert "stored result" in stream.getvalue()
    assert "failed: out of memory" in stream.getvalue()


def test_a_run_that_starts_has_a_row_and_says_where_it_is_resumed(runs: list[PlannedRun]) -> None:
    console, stream = listen(terminal=True)
    console.on(RunStarted(runs[0], 0, 60))
    console.on(RunStarted(runs[1], 3, 60))
    assert cells(console) == [["toy: joint", "toy: joint"], ["3", "5"], ["0 / 4", "3 / 4"]]
    console.on(EpochFinished(runs[1], epoch_record(3)))
    assert cells(console)[2] == ["0 / 4", "4 / 4"]
    console.close()
    assert "toy: joint seed 5: resumed at epoch 3\n" in stream.getvalue()
    assert "seed 3: resumed" not in stream.getvalue()


def test_runs_of_one_name_have_a_row_per_recipe(runs: list[PlannedRun], tmp_path: Path) -> None:
    other = replace(runs[0], recipe=replace(runs[0].recipe, name="toy-noisy"), folder=tmp_path / "toy-noisy")
    console, _ = listen(terminal=True)
    for run in (runs[0], other):
        console.on(EpochFinished(run, epoch_record(0)))
    assert cells(console)[0] == ["toy: joint", "toy-noisy: joint"]
    console.on(RunFinished(other, SUMMARY, False))
    assert cells(console)[0] == ["toy: joint"]
    console.close()


def test_the_names_of_runs_are_folded_and_not_cut_off(runs: list[PlannedRun]) -> None:
    console, _ = listen(terminal=True)
    console.on(EpochFinished(replace(runs[0], modality="one_of_a_long_name"), epoch_record(1)))
    stream = io.StringIO()
    Console(file=stream, width=60).print(console.table())
    console.close()
    assert "…" not in stream.getvalue()


def cells(console: GridConsole) -> list[list[str]]:
    """The first three columns of the table."""
    return [[str(cell) for cell in column.cells] for column in console.table().columns[:3]]
