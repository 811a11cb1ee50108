"""`drcli train --emit-jobs`: one command line for each run, and scripts that give them to SLURM.

The order respects teachers: unimodal runs that others start from come first, then the runs that need none, then those
that start from teachers. Lines executed one after another are therefore the grid. In SLURM the three parts are three
arrays, of which the last waits for the first.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from drcli.amounts import counted
from drcli.commands.train import TrainRequest, check_weights, open_or_prepare, requested
from drcli.engine.grid import check_folders, is_stored
from drcli.errors import UsageError
from drcli.files import make_folder, write_atomic
from drcli.recipe.schema import Recipe
from drcli.runs.planned import PlannedRun, teachers_of
from drcli.runs.wording import all_finished

LINES, ARRAY, SUBMIT = "jobs.txt", "array.sh", "submit.sh"

GPU_CORES = 4
"""Cores beside a GPU, which read batches and evaluate."""

_ARRAY = """#!/bin/bash
# One run for each task of the array: line SLURM_ARRAY_TASK_ID of {lines}.
# A task that is stopped or requeued goes on after its last finished epoch.
#SBATCH --job-name={name}
#SBATCH --chdir={here}
#SBATCH --output={folder}/%A_%a.log
#SBATCH --cpus-per-task={cpus}
#SBATCH --requeue
{gpus}export OMP_NUM_THREADS="${{SLURM_CPUS_PER_TASK:-{cpus}}}"
eval "exec $(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {lines})"
"""

_SUBMIT = """#!/bin/bash
# Submits the runs; what is written behind the name of this script is handed to sbatch: bash submit.sh --time=4:00:00
set -e
submit() {{ sbatch --parsable "$@" {array}; }}
{commands}
"""


@dataclass(frozen=True)
class Waves:
    """Runs in the order in which they are written.

    Attributes:
        teachers: unimodal runs that others start from.
        alone: runs that need none.
        dependent: runs that start from teachers.
    """

    teachers: Sequence[PlannedRun]
    alone: Sequence[PlannedRun]
    dependent: Sequence[PlannedRun]

    @property
    def all(self) -> list[PlannedRun]:
        """All runs, in order."""
        return [*self.teachers, *self.alone, *self.dependent]


def waves(runs: Sequence[PlannedRun]) -> Waves:
    """Return runs in the order in which they can be trained: those that others start from come first."""
    needed = teachers_of(runs)
    teachers = [run for run in runs if run.folder in needed]
    there = {run.folder for run in teachers}
    others = [run for run in runs if run.folder not in needed]
    dependent = [run for run in others if not there.isdisjoint(run.teachers.values())]
    return Waves(teachers, [run for run in others if run not in dependent], dependent)


def emit_jobs(request: TrainRequest, folder: Path, progress: Console) -> list[str]:
    """Write the command lines of all runs that are not finished, and return what was written, in words.

    The dataset is opened, or prepared where that takes no download, so that the runs need not do it all at once.

    Raises:
        DrcliError: bad usage or recipe, missing data, or a folder that cannot be written.
    """
    _refuse_what_is_no_job(request)
    runs, recipe = requested(request)
    check_weights(runs)
    check_folders(runs, open_or_prepare(recipe, progress))
    left = waves([run for run in runs if not is_stored(run)])
    if not left.all:
        return [f"{all_finished(len(runs))}: nothing was written"]
    make_folder(folder, remedy="choose another folder with --emit-jobs")
    written = _write(left, recipe, request, folder.absolute())
    parts = [f"{len(left.teachers)} that others start from", f"{len(left.alone)} alone"]
    order = ", ".join([*parts, f"{len(left.dependent)} that start from others"])
    count = counted(len(left.all), "run")
    return [f"{count}, in this order: {order}", *(f"written: {path}" for path in written)]


def _refuse_what_is_no_job(request: TrainRequest) -> None:
    engine = request.engine
    if engine.fresh:
        raise UsageError("--fresh: each line would delete runs that others start from; delete the folder yourself")
    for name, given in (("--engine ray", engine.name != "local"), (f"--jobs {engine.jobs}", engine.jobs is not None)):
        if given:
            raise UsageError(f"{name}: --emit-jobs makes a job of each run, which trains it alone; leave it out")


def _write(ordered: Waves, recipe: Recipe, request: TrainRequest, folder: Path) -> list[Path]:
    lines, array, submit = (folder / name for name in (LINES, ARRAY, SUBMIT))
    on_gpu = request.engine.device == "cuda"
    known = {
        "name": f"drcli-{recipe.name}",
        "here": _quoted(Path.cwd()),
        "folder": _quoted(folder),
        "lines": shlex.quote(str(lines)),
        "cpus": GPU_CORES if on_gpu else 1,
        "gpus": f"#SBATCH --gpus={request.engine.devices or 1}\n" if on_gpu else "",
    }
    write_atomic(lines, "".join(f"{line_of(run, recipe, request)}\n" for run in ordered.all).encode())
    write_atomic(array, _ARRAY.format(**known).encode())
    write_atomic(submit, _SUBMIT.format(array=shlex.quote(str(array)), commands=_commands(ordered)).encode())
    return [lines, array, submit]


def _quoted(path: Path) -> str:
    """A path in a line for sbatch: a blank is escaped, and % is no pattern of its own."""
    return str(path).replace("%", "%%").replace(" ", "\\ ")


def _commands(ordered: Waves) -> str:
    """The calls of sbatch, one for each wave that is not empty; dependent runs wait for the teachers alone."""
    first, second = len(ordered.teachers), len(ordered.teachers) + len(ordered.alone)
    commands = []
    if ordered.teachers:
        commands.append(f'teachers=$(submit --array=1-{first} "$@")')
    if ordered.alone:
        commands.append(f'submit --array={first + 1}-{second} "$@"')
    if ordered.dependent:
        wait = '--dependency="afterany:${teachers%%;*}" ' if ordered.teachers else ""
        commands.append(f'submit {wait}--array={second + 1}-{len(ordered.all)} "$@"')
    return "\n".join(commands)


def line_of(run: PlannedRun, recipe: Recipe, request: TrainRequest) -> str:
    """Return the command that trains one run, and before it those that it starts from where they are not finished."""
    label, engine = run.recipe.method, request.engine
    added = [] if label in recipe.methods else [f"methods.{label}={{method: {run.method}}}"]
    shared = ("--jobs", "1") if engine.devices is None else ("--devices", str(engine.devices))
    words = [
        *(sys.executable, "-m", "drcli", "train", request.recipe, *request.overrides, *added),
        *("--method", run.name, "--seeds", str(run.seed), "--out", str(request.out), "--device", engine.device),
        *shared,
    ]
    return shlex.join(words)
