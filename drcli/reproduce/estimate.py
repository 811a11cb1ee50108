"""How long the runs of a target will take, estimated from finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import fmean

from drcli.names import METHODS
from drcli.reproduce.expand import Grid
from drcli.runs import directory
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.wording import duration


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
        total: number of runs.
        finished: how many of them are finished.
        seconds: estimate for the unfinished runs of known speed.
        unknown: number of unfinished runs of unknown speed.
        epochs: epochs that the latter have left in total.
    """

    total: int
    finished: int
    seconds: float
    unknown: int
    epochs: int = 0

    def __str__(self) -> str:
        if self.finished == self.total:
            return f"{self.total} runs, all finished"
        left = f"{self.total} runs, {self.finished} of them finished; the rest takes"
        if self.epochs == 0 and self.seconds == 0:
            return f"{left} no training"
        if self.unknown == self.total - self.finished:
            return f"{left} {self.epochs:,} epochs; the time per epoch is known after the first run"
        unknown = f", and {self.epochs:,} epochs of runs of unknown speed"
        return f"{left} about {duration(self.seconds)}{unknown if self.unknown else ''}"


Speeds = Mapping[tuple[str, str], float]


def speeds(grids: Sequence[Grid], out: Path, recorded: Mapping[str, float]) -> Speeds:
    """Return seconds per epoch by (recipe without variant, label); the label "" stands for all others.

    Finished runs of the recipe and of its variants come first, then what the target recorded.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for base, name in dict.fromkeys((grid.base, folder) for grid in grids for folder in (grid.base, grid.recipe.name)):
        for label, speed in directory.speeds(out / name):
            for known in (label, "") if speed else (label,):
                found.setdefault((base, known), []).append(speed)
    measured = {key: fmean(values) for key, values in found.items()}
    return {**{(base, ""): speed for base, speed in recorded.items()}, **measured}


def work(grid: Grid, known: Speeds) -> Work:
    """Return what is left of a grid; finished epochs of unfinished runs count as done."""
    left = [run for run in grid.runs if not finished(run)]
    each = [known.get((grid.base, run.recipe.method), known.get((grid.base, ""))) for run in left]
    epochs = [_epochs_left(run) for run in left]
    times = [speed * count for speed, count in zip(each, epochs, strict=True) if speed is not None]
    unknown = [count for speed, count in zip(each, epochs, strict=True) if speed is None]
    return Work(len(grid.runs), len(grid.runs) - len(left), sum(times), len(unknown), sum(unknown))


def total(parts: Iterable[Work]) -> Work:
    """Return the work of all parts together."""
    runs, done, seconds, unknown, epochs = zip(*map(astuple, parts), strict=True)
    return Work(sum(runs), sum(done), sum(seconds), sum(unknown), sum(epochs))


def finished(run: PlannedRun) -> bool:
    """Return whether a run has its test scores; those of another recipe in its folder are not its own."""
    return RunDirectory(run.folder).is_finished(run.recipe)


def _epochs_left(run: PlannedRun) -> int:
    if not METHODS.load(run.recipe.methods[run.recipe.method].method).trains:
        return 0
    return max(0, run.recipe.training.epochs - RunDirectory(run.folder).count_epochs())
