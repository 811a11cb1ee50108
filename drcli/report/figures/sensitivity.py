"""Figure 5: accuracy of D&R, alone or on another method, over lambda and the frequency H of re-learning."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drcli.errors import DataError
from drcli.recipe.load import identity_of
from drcli.recipe.schema import RELEARN
from drcli.recipe.text import dotted, spelled, walk
from drcli.report.drawing import draw_heat_map
from drcli.report.theme import MUTED, Theme
from drcli.report.wording import JOINT, count_seeds
from drcli.report.wording import RELEARN as D_AND_R
from drcli.runs.collect import RunRecord, finished
from drcli.runs.statistics import paired_differences, spread
from drcli.runs.wording import how_selected, mean_and_spread, points

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIED = ("lambda", "every")
JOINT_TRAINING = "joint training"
Cell = tuple[float, int]
Accuracies = Mapping[int, float]
"""Test accuracies by seed, fractions."""


@dataclass(frozen=True)
class Grid:
    """Runs that are alike but for lambda and every.

    Attributes:
        name: the dataset, and what sets the grid apart from the dataset's others.
        runs: finished runs.
        accuracies: by (lambda, every).
        reference: what it is compared with: the method without re-learning; of D&R itself, and where there are no
            runs of that, joint training.
        base: its accuracies, of runs that are alike but for re-learning; empty where there are none.
    """

    name: str
    runs: Sequence[RunRecord]
    accuracies: Mapping[Cell, Accuracies]
    reference: str
    base: Accuracies

    @property
    def lambdas(self) -> list[float]:
        """Values of lambda, rising."""
        return sorted({value for value, _ in self.accuracies})

    @property
    def everies(self) -> list[int]:
        """Values of every, rising."""
        return sorted({every for _, every in self.accuracies})

    def difference(self, cell: Cell) -> float | None:
        """Return the mean difference of a cell to the reference, paired by seed; None without a seed in common."""
        found = paired_differences(self.accuracies[cell], self.base)
        return fmean(found) if found else None

    def matrix(self, values: Mapping[Cell, float | None]) -> NDArray[Any]:
        """Return values as (everies, lambdas), NaN where there is none."""
        rows = [[values.get((value, every)) for value in self.lambdas] for every in self.everies]
        return np.array(rows, dtype=np.float64)


def data(runs: Iterable[RunRecord]) -> list[Grid]:
    """Return the grids of finished runs of D&R, each of one cell or more; what two recipes have both counts once."""
    done = finished(runs)
    alike: dict[str, list[RunRecord]] = {}
    for run in done:
        settings = run.relearning or {}
        if all(isinstance(settings.get(key), int | float) for key in VARIED):
            alike.setdefault(_key(_everything_else(run)), []).append(run)
    groups = list(alike.values())
    names = _names([group[0] for group in groups])
    plain: dict[str, list[RunRecord]] = {}
    for run in done:
        if run.relearning is None:
            plain.setdefault(_key(_without_method(run)), []).append(run)
    return [
        Grid(name, group, by_cell(group), *_reference(group[0], plain.get(_key(_without_method(group[0])), [])))
        for name, group in zip(names, groups, strict=True)
    ]


def _reference(run: RunRecord, alike: Sequence[RunRecord]) -> tuple[str, dict[int, float]]:
    """Return what a run with re-learning is compared with, in words, and its accuracies by seed.

    Args:
        run: with re-learning.
        alike: runs without it that differ from it in the method alone.
    """
    block = {key: value for key, value in run.recipe.settings.items() if key != RELEARN}
    alone = [other for other in alike if other.method == run.method and other.recipe.settings == block]
    method = run.method if alone else JOINT
    found = alone or [other for other in alike if other.method == JOINT]
    return JOINT_TRAINING if method == JOINT else method, {other.seed: other.score for other in found}


def data_with_reference(runs: Sequence[RunRecord]) -> list[Grid]:
    """Return the grids that share a seed with what they are compared with.

    Raises:
        DataError: there is none.
    """
    found = [grid for grid in data(runs) if any(grid.difference(cell) is not None for cell in grid.accuracies)]
    if not found:
        raise DataError(
            "figure of sensitivity: it needs finished runs with re-learning and, of the same seeds, of the method "
            "without it or of joint training"
        )
    return found


def by_cell(runs: Iterable[RunRecord]) -> dict[Cell, dict[int, float]]:
    """Return the test accuracies of runs by (lambda, every) and seed."""
    found: dict[Cell, dict[int, float]] = {}
    for run in runs:
        settings = run.relearning or {}
        found.setdefault((settings["lambda"], settings["every"]), {})[run.seed] = run.score
    return found


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def _without_method(run: RunRecord) -> dict[str, Any]:
    """Return the resolved recipe without names, places, seed and method, and which data it was."""
    left_out = ("name", "seeds", "method", "methods", "diagnosis")
    recipe = {key: value for key, value in identity_of(run.recipe.plain()).items() if key not in left_out}
    return {**recipe, "fingerprint": run.environment.dataset_fingerprint[:16]}


def _everything_else(run: RunRecord) -> dict[str, Any]:
    """Return `_without_method` with the settings of the method but lambda and every."""
    varied = {key: value for key, value in (run.relearning or {}).items() if key not in VARIED}
    block = run.recipe.settings
    settings = {**block, RELEARN: varied} if RELEARN in block else varied
    return {**_without_method(run), "methods": {run.method: settings}}


def _names(runs: Sequence[RunRecord]) -> list[str]:
    """Name the dataset of each run, and the settings in which it differs from the others of this dataset."""
    settings = [_settings(run) for run in runs]
    names = []
    for run, ours in zip(runs, settings, strict=True):
        others = [theirs for other, theirs in zip(runs, settings, strict=True) if other.dataset == run.dataset]
        differing = [key for key, value in ours.items() if any(theirs.get(key) != value for theirs in others)]
        names.append(", ".join([run.dataset, *(f"{key}={ours[key]}" for key in differing)]))
    return names


def _settings(run: RunRecord) -> dict[str, str]:
    """Return every single value of the recipe, as one would write it on the command line."""
    values = {dotted(key): value for key, value in walk(_everything_else(run))}
    return {key: spelled(value) for key, value in values.items() if not value or not isinstance(value, Mapping | list)}


def text_of(accuracies: Accuracies) -> str:
    """Return the mean in per cent, with the standard deviation of more than one seed."""
    values = list(accuracies.values())
    return mean_and_spread(fmean(values), spread(values))


def draw(figure: Figure, found: Sequence[Grid], theme: Theme) -> None:
    """Draw one heat map per grid below each other, coloured by the difference to the reference.

    Each cell holds the accuracy, and in brackets that difference in points, over the seeds that both have.
    """
    from matplotlib.ticker import MaxNLocator

    widest = max(len(grid.lambdas) for grid in found)
    heights = [2.4 + 0.75 * len(grid.everies) for grid in found]
    figure.set_size_inches(max(8.0, 2.4 + 1.2 * widest), sum(heights))
    panels = figure.subplots(len(found), squeeze=False, height_ratios=heights).flat
    for axes, grid in zip(panels, found, strict=True):
        image: Any = draw_grid(axes, grid, theme)
        axes.set_title(_title(grid), fontsize=10, color=MUTED)
        label = f"difference to {grid.reference} (points)"
        figure.colorbar(image, ax=axes, label=label, ticks=MaxNLocator(6, steps=[1, 2, 5, 10]), format="%+g")


def draw_grid(axes: Axes, grid: Grid, theme: Theme) -> Artist:
    """Draw one grid: coloured by the difference to the reference, by the accuracy where there is none."""
    differences = {cell: grid.difference(cell) for cell in grid.accuracies}
    compared = any(value is not None for value in differences.values())
    means = {cell: fmean(seeds.values()) for cell, seeds in grid.accuracies.items()}
    values = 100 * grid.matrix(differences if compared else means)
    reach = max(1, math.ceil(round(float(np.nanmax(np.abs(values))), 3)))
    limits = (-reach, reach) if compared else (float(np.nanmin(values)), float(np.nanmax(values)))
    ticks = [f"{value:g}" for value in grid.lambdas], [f"{every:g}" for every in grid.everies]
    written = [[_text(grid, (x, y), differences, theme) for x in grid.lambdas] for y in grid.everies]
    note = f" (0: nothing is pulled back, which is {grid.reference})" if 0 in grid.lambdas and not theme.grows else ""
    labels = (f"lambda{note}", "every (epochs between re-learnings)" if not theme.grows else "every (epochs)")
    return draw_heat_map(axes, values, ticks, written, labels=labels, limits=limits)


def _text(grid: Grid, cell: Cell, differences: Mapping[Cell, float | None], theme: Theme) -> str:
    """Return what a cell holds: on the page, where cells are small, without the standard deviation."""
    seeds, difference = grid.accuracies.get(cell), differences.get(cell)
    if seeds is None:
        return ""
    mean = mean_and_spread(fmean(seeds.values())) if theme.grows else text_of(seeds)
    return mean if difference is None else f"{mean}\n({points(difference)})"


def _title(grid: Grid) -> str:
    counts = [len(seeds) for seeds in grid.accuracies.values()]
    mean = "mean ± standard deviation" if max(counts) > 1 else "mean"
    selected = how_selected(run.done for run in grid.runs)
    return (
        f"{grid.name}: test accuracy of {_method(grid)} in per cent, {mean} over {count_seeds(counts)}\n"
        f"in brackets: minus {grid.reference} ({text_of(grid.base)}) in points, paired by seed\nepochs {selected}"
    )


def _method(grid: Grid) -> str:
    method = grid.runs[0].method
    return "D&R" if method == D_AND_R else f"{method} with re-learning"
