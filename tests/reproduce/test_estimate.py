"""How much is left of a target: runs, epochs, and seconds where a speed is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from support.records import summary_record

from drcli.recipe.shipped import find_target
from drcli.reproduce.target import Choice, Grid, Work, expand, load_target, speeds, total, work
from drcli.runs.directory import RunDirectory


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Table 1 on digits: 13 runs of one seed, 12 of which train 60 epochs."""
    (found,) = expand(load_target(find_target("table1")), Choice(dataset="digits", seeds="0", out=tmp_path)).grids
    return found


def finish(grid: Grid, method: str, seconds: float, **changes: object) -> None:
    """Leave what a finished run leaves, of this recipe or of one with other values."""
    (run,) = (run for run in grid.runs if run.name == method)
    run.folder.mkdir(parents=True)
    (run.folder / "recipe.yaml").write_text(yaml.safe_dump({**run.recipe.to_dict(), **changes}))
    RunDirectory(run.folder).write_summary(summary_record(method=method, seconds=seconds, epochs=60))


def test_an_ensemble_takes_no_epochs(grid: Grid) -> None:
    found = work(grid, {})
    assert found == Work(total=13, finished=0, seconds=0, unknown=13, epochs=12 * 60)
    assert (
        str(found)
        == "13 runs, 0 of them finished; the rest takes 720 epochs; the time per epoch is known after the first run"
    )


def test_finished_runs_tell_the_speed_of_the_rest(grid: Grid, tmp_path: Path) -> None:
    finish(grid, "joint", 120.0)
    finish(grid, "agm", 360.0)
    known = speeds([grid], tmp_path, {"digits": 99.0})
    found = work(grid, known)
    # 10 runs at the mean of 2 and 6 s an epoch
    assert (found.finished, found.unknown) == (2, 0)
    assert found.seconds == pytest.approx(10 * 60 * 4.0)


def test_a_run_of_another_recipe_is_not_the_one_that_is_wanted(grid: Grid) -> None:
    finish(grid, "joint", 120.0)
    finish(grid, "agm", 360.0, selection="last")
    assert work(grid, {}).finished == 1


def test_epochs_that_an_unfinished_run_has_behind_it_count(grid: Grid) -> None:
    folder = grid.runs[2].folder
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("{}\n" * 45)
    joint = replace(grid, runs=[grid.runs[2]])
    assert work(joint, {("digits", ""): 2.0}).seconds == pytest.approx(15 * 2.0)


def test_parts_add_up() -> None:
    assert total([Work(3, 1, 5.0, 1, 60), Work(2, 2, 0.0, 0)]) == Work(5, 3, 5.0, 1, 60)
    assert str(Work(13, 12, 0.0, 1)) == "13 runs, 12 of them finished; the rest takes no training"
    assert str(Work(5, 3, 5.0, 1, 60)).endswith("about 0:05, and 60 epochs of runs of unknown speed")
    assert str(Work(1, 1, 0.0, 0)) == "1 run, finished"
    assert str(Work(1, 0, 5.0, 0, 60)) == "1 run, not finished; it takes about 0:05"
