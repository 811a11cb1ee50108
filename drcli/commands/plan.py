"""`drcli train --plan`: what would be trained, and how long it takes; nothing is trained, prepared or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from drcli.commands.train import TrainRequest, requested
from drcli.errors import DamagedError
from drcli.reproduce.target import Grid, Speeds, Work, speeds, total, work
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun, teachers_of
from drcli.runs.wording import duration

SHOWN = 5
"""Folders with other runs that are named; the rest is counted."""


@dataclass(frozen=True)
class Planned:
    """What a command would train.

    Attributes:
        grid: the runs of its recipe.
        known: seconds per epoch, where runs of this folder tell.
        blocked: run directories that training would refuse, with the reason in one line.
    """

    grid: Grid
    known: Speeds
    blocked: Sequence[str]


def planned(request: TrainRequest) -> Planned:
    """Return what a request would train.

    Unlike the training it does not look at the data, and so not at whether a run was begun on other data.

    Raises:
        DrcliError: bad usage or recipe.
    """
    runs, recipe = requested(request)
    reasons = {run.folder: _blocked(run) for run in runs}
    grid = Grid(recipe.name, recipe, [run for run in runs if reasons[run.folder] is None])
    return Planned(grid, speeds([grid], request.out, {}), list(filter(None, reasons.values())))


def _blocked(run: PlannedRun) -> str | None:
    """Why a run could not be trained in its folder; None where it can."""
    directory = RunDirectory(run.folder)
    try:
        lines = directory.obstacles(run.recipe)
    except DamagedError as error:
        return str(error)
    return f"{run.folder}: holds a run of another recipe ({'; '.join(lines)})" if lines else None


def table(plan: Planned) -> Group:
    """Return the plan: a row for each name in tables, and what all takes together."""
    out = Table("runs of", "seeds", "start from")
    for name in ("finished", "epochs done", "time left"):
        out.add_column(name, justify="right")
    for name in dict.fromkeys(run.name for run in plan.grid.runs):
        runs = [run for run in plan.grid.runs if run.name == name]
        left = work(replace(plan.grid, runs=runs), plan.known)
        teachers = dict.fromkeys(other.name for run in runs for other in _teachers(run, plan))
        done, epochs = sum(map(_done, runs)), sum(run.epochs for run in runs)
        out.add_row(
            name,
            ",".join(str(run.seed) for run in runs),
            ", ".join(teachers),
            f"{left.finished} / {left.total}",
            f"{done} / {epochs}",
            "unknown" if left.unknown else duration(left.seconds),
        )
    notes = [*plan.blocked[:SHOWN], *([f"and {len(plan.blocked) - SHOWN} more"] if len(plan.blocked) > SHOWN else [])]
    return Group(out, *(Text(note, style="yellow") for note in notes), Text(_last_line(plan), style="bold"))


def _last_line(plan: Planned) -> str:
    if plan.blocked and not plan.grid.runs:
        return "nothing can be trained; delete these runs, or choose another --out or name=NAME"
    return str(_together(plan))


def _together(plan: Planned) -> Work:
    return total([work(plan.grid, plan.known)]) if plan.grid.runs else Work(0, 0, 0.0, 0)


def _teachers(run: PlannedRun, plan: Planned) -> list[PlannedRun]:
    return [other for other in plan.grid.runs if other.folder in teachers_of([run])]


def _done(run: PlannedRun) -> int:
    return min(run.epochs, RunDirectory(run.folder).count_epochs())


def to_json(plan: Planned) -> dict[str, Any]:
    """Return the object of `drcli train --plan --json`; `seconds` is null where no speed is known."""
    together = _together(plan)
    return {
        "runs": [_run_json(run, plan) for run in plan.grid.runs],
        "blocked": list(plan.blocked),
        "seconds": None if together.unknown else together.seconds,
    }


def _run_json(run: PlannedRun, plan: Planned) -> dict[str, Any]:
    left = work(replace(plan.grid, runs=[run]), plan.known)
    return {
        "method": run.recipe.method,
        **({"modality": run.modality} if run.modality is not None else {}),
        "seed": run.seed,
        "run_dir": str(run.folder),
        "epochs": run.epochs,
        "epochs_done": _done(run),
        "finished": bool(left.finished),
        "teachers": [str(folder) for folder in run.teachers.values()],
        "seconds": None if left.unknown else left.seconds,
    }
