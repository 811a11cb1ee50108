"""`drcli reproduce`: train what a table or figure of the paper still lacks, then make it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from drcli.commands.engines import Engine, EngineOptions, select_engine
from drcli.commands.train import check_weights, open_or_prepare
from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import prepare_settings
from drcli.engine.grid import check_folders, finished_among
from drcli.errors import DrcliError, InterruptedRunError
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_target, shipped_targets
from drcli.report.render import rich_table
from drcli.report.tables import comparison_tables
from drcli.reproduce.output import Output, write
from drcli.reproduce.target import (
    Choice,
    Expanded,
    Grid,
    Speeds,
    Target,
    Work,
    expand,
    finished,
    load_target,
    speeds,
    total,
    work,
)
from drcli.runs.planned import PlannedRun
from drcli.runs.wording import duration

EVERYTHING = "all"


@dataclass(frozen=True)
class ReproduceRequest:
    """What the command line asks for; see `drcli reproduce --help`."""

    target: str
    choice: Choice
    figures: Path
    engine: EngineOptions


@dataclass(frozen=True)
class Planned:
    """A target with its runs, and how fast they are, where that is known."""

    target: Target
    expanded: Expanded
    known: Speeds


@dataclass(frozen=True)
class Reproduced:
    """What was made, what failed, and what ended the command early, if anything did."""

    outputs: Sequence[Output]
    failed: Sequence[str]
    ended: DrcliError | None = None


def planned(request: ReproduceRequest) -> list[Planned]:
    """Return what a request would run; nothing is trained, prepared or written.

    Raises:
        RecipeError: the target, or a recipe of it, is unknown or not valid.
        UsageError: there are no seeds, or no recipe has any of the methods.
    """
    paths = shipped_targets().values() if request.target == EVERYTHING else [find_target(request.target)]
    return [_planned(load_target(path), request.choice) for path in paths]


def _planned(target: Target, choice: Choice) -> Planned:
    expanded = expand(target, choice)
    return Planned(target, expanded, speeds(expanded.grids, choice.out, target.seconds_per_epoch))


def reproduce(plans: Sequence[Planned], request: ReproduceRequest, progress: Console) -> Reproduced:
    """Show the plan, train what is missing, and write tables and figures.

    Of several targets, one that fails does not stop the others.

    Raises:
        DrcliError: data is missing, a single target cannot be made, or an interrupt.
    """
    engine = select_engine(request.engine)
    progress.print(plan_table(plans))
    outputs: list[Output] = []
    failed: list[str] = []
    for plan in plans:
        try:
            failures = _train(plan, engine, progress)
            outputs.append(_write(plan, request))
        except InterruptedRunError as error:
            return Reproduced([*outputs, *_unwritten(plan)], list(dict.fromkeys(failed)), error)
        except DrcliError as error:
            if len(plans) == 1:
                raise
            failures = [f"{plan.target.name}: {error}"]
            progress.print(Text(failures[0], style="yellow"))
        failed += failures
    return Reproduced(outputs, list(dict.fromkeys(failed)))


def _train(plan: Planned, engine: Engine, progress: Console) -> list[str]:
    """Train a target's runs, stored ones left as they are, and return what failed."""
    progress.print(Text(f"{plan.target.name}: {plan.target.title}", style="bold"))
    check_weights([run for grid in plan.expanded.grids for run in grid.runs])
    together = _by_dataset(plan.expanded.grids, progress)
    for dataset, runs in together:  # what is in the way shows before hours of training
        check_folders(runs, dataset)
    failed = []
    for dataset, runs in together:
        failed += engine(runs, dataset, progress).messages
    return failed


def _by_dataset(grids: Sequence[Grid], progress: Console) -> list[tuple[PreparedDataset, list[PlannedRun]]]:
    """Return the runs of all grids by the dataset that they train on, so that they can be trained at once.

    A dataset is opened once for each setting of its preparation, or prepared where that takes no download.
    """
    runs: dict[str, list[PlannedRun]] = {}
    recipes: dict[str, Recipe] = {}
    for grid in grids:
        key = json.dumps([str(grid.recipe.dataset.root), prepare_settings(grid.recipe)])
        runs.setdefault(key, []).extend(grid.runs)
        recipes.setdefault(key, grid.recipe)
    return [(open_or_prepare(recipes[key], progress), found) for key, found in runs.items()]


def _write(plan: Planned, request: ReproduceRequest) -> Output:
    name = plan.target.name
    if request.choice.dataset is not None:  # a stand-in does not overwrite the table on its own datasets
        name = f"{name}-{Path(request.choice.dataset).stem}"
    folders = [run.folder for run in plan.expanded.runs]
    return write(plan.target, folders, request.figures, name, plan.expanded.notes)


def _unwritten(plan: Planned) -> list[Output]:
    """What is finished of a target whose training was interrupted: tables to look at, no files."""
    runs = finished_among(plan.expanded.runs)
    return [Output(plan.target.name, plan.target.title, (), comparison_tables(runs), {}, ())] if runs else []


def plan_table(plans: Sequence[Planned]) -> Group:
    """Return what is run, and how long that takes."""
    out = Table("target", "runs of", "methods", "seeds")
    out.add_column("finished", justify="right")
    out.add_column("time left", justify="right")
    for plan in plans:
        for grid in plan.expanded.grids:
            left = work(grid, plan.known)
            methods = ", ".join(dict.fromkeys(run.name for run in grid.runs))
            seeds = ",".join(map(str, dict.fromkeys(run.seed for run in grid.runs)))
            time = "unknown" if left.unknown else duration(left.seconds)
            out.add_row(plan.target.name, grid.recipe.name, methods, seeds, f"{left.finished} / {left.total}", time)
    notes = dict.fromkeys(note for plan in plans for note in plan.expanded.notes)
    return Group(out, *(Text(note, style="yellow") for note in notes), Text(str(_together(plans)), style="bold"))


def _together(plans: Sequence[Planned]) -> Work:
    """The work of all targets; a run that several share counts once."""
    seen: set[str] = set()
    parts = []
    for plan in plans:
        for grid in plan.expanded.grids:
            fresh = [run for run in grid.runs if str(run.folder) not in seen]
            seen |= {str(run.folder) for run in fresh}
            parts.append(work(replace(grid, runs=fresh), plan.known))
    return total(parts)


def plan_json(plans: Sequence[Planned]) -> dict[str, Any]:
    """Return the object of `drcli reproduce --plan --json`; `seconds` is null where no speed is known."""
    together = _together(plans)
    return {
        "targets": [
            {
                "name": plan.target.name,
                "runs": [
                    {
                        "recipe": grid.recipe.name,
                        "method": run.recipe.method,
                        **({"modality": run.modality} if run.modality is not None else {}),
                        "seed": run.seed,
                        "run_dir": str(run.folder),
                        "finished": finished(run),
                    }
                    for grid in plan.expanded.grids
                    for run in grid.runs
                ],
                "notes": list(plan.expanded.notes),
            }
            for plan in plans
        ],
        "seconds": None if together.unknown else together.seconds,
    }


def to_json(result: Reproduced) -> dict[str, Any]:
    """Return the object of `drcli reproduce --json`."""
    return {
        "targets": [
            {"name": made.name, "files": list(map(str, made.files)), "rows": made.rows, "notes": list(made.notes)}
            for made in result.outputs
        ],
        **({"failed": list(result.failed)} if result.failed else {}),
    }


def show(result: Reproduced) -> Group:
    """Return the tables, and where everything was written."""
    parts: list[Any] = []
    for made in result.outputs:
        parts += [Text(f"{made.name}: {made.title}", style="bold"), *map(rich_table, made.tables)]
        files = ", ".join(map(str, made.files))
        parts.append(Text(f"written: {files}\n" if files else "not written, since runs are missing\n"))
    return Group(*parts)
