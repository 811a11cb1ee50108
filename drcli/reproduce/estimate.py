"""How long the runs of a target will take, estimated from finished runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from drcli.engine.plan import PlannedRun
from drcli.engine.rundir import RunDirectory
from drcli.methods import METHODS
from drcli.report.console import duration
from drcli.reproduce.expand import Grid


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
        for path in sorted((out / name).glob("**/summary.json")):
            summary = _read(path)
            if summary is not None:
                trains = summary["epochs"] > 0  # an ensemble of trained encoders does not
                speed = summary["seconds"] / summary["epochs"] if trains else 0.0
                for label in (summary["method"], "") if trains else (summary["method"],):
                    found.setdefault((base, label), []).append(speed)
    measured = {key: fmean(values) for key, values in found.items()}
    return {**{(base, ""): speed for base, speed in recorded.items()}, **measured}


def _read(path: Path) -> Any:
    """A summary; None for one that is damaged, which the run itself will refuse."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"seconds", "epochs", "method"} <= set(found) else None


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
    metrics = RunDirectory(run.folder).metrics
    done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    return max(0, run.recipe.training.epochs - done)
