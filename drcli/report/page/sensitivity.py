"""Sensitivity of Diagnosing & Re-learning: accuracy over lambda and the epochs between two events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from drcli.recipe.text import dotted, spelled, walk
from drcli.report.figures.sensitivity import Cell, by_point
from drcli.report.page.drawing import Drawing, heat_map
from drcli.report.page.markup import Html
from drcli.report.page.section import Section
from drcli.report.page.table import over_seeds, to_html
from drcli.report.render import TableText
from drcli.runs.collect import RunRecord, finished
from drcli.runs.directory import without_root
from drcli.runs.wording import how_selected

VARIED = ("lambda", "every")


@dataclass(frozen=True)
class Grid:
    """Runs that are alike but for lambda and every.

    Attributes:
        name: the dataset, and what sets the grid apart from the dataset's others.
        runs: finished runs.
        accuracies: test accuracy by (lambda, every) and by seed.
    """

    name: str
    runs: Sequence[RunRecord]
    accuracies: Mapping[Cell, Mapping[int, float]]


def sensitivity(runs: Sequence[RunRecord]) -> Section | None:
    """Return the section, or None where no runs differ in lambda and every alone."""
    content: list[Html | Drawing] = []
    for grid in _grids(runs):
        content += [_drawing(grid), to_html(_table(grid))]
    intro = (
        "Mean test accuracy in per cent of runs that differ only in lambda, the slope from gap to strength, and in "
        "every, the epochs between two events. To choose among them by these numbers would be selection on test."
    )
    return Section("Sensitivity", intro, content) if content else None


def _grids(runs: Sequence[RunRecord]) -> list[Grid]:
    alike: dict[str, list[RunRecord]] = {}
    for run in finished(runs):
        settings = run.recipe.settings
        if all(isinstance(settings.get(key), int | float) for key in VARIED):
            alike.setdefault(json.dumps(_everything_else(run), sort_keys=True, default=str), []).append(run)
    found = [(group, accuracies) for group in alike.values() if len(accuracies := by_point(group)) > 1]
    names = _names([group[0] for group, _ in found])
    return [Grid(name, group, accuracies) for name, (group, accuracies) in zip(names, found, strict=True)]


def _everything_else(run: RunRecord) -> dict[str, Any]:
    """Return the resolved recipe without names, places, seed, lambda and every, and which data it was."""
    left_out = ("name", "seeds", "method")
    settings = {key: value for key, value in run.recipe.settings.items() if key not in VARIED}
    return {
        **{key: value for key, value in without_root(run.recipe.plain()).items() if key not in left_out},
        "fingerprint": run.environment.dataset_fingerprint[:16],
        "methods": {run.method: settings},
    }


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


def _drawing(grid: Grid) -> Drawing:
    lambdas, everys = sorted({x for x, _ in grid.accuracies}), sorted({y for _, y in grid.accuracies})
    found = {point: fmean(seeds.values()) for point, seeds in grid.accuracies.items()}
    means = np.array([[found.get((x, y), np.nan) for x in lambdas] for y in everys])
    written = [["" if np.isnan(mean) else f"{100 * mean:.1f}" for mean in row] for row in means]
    ticks = [f"{x:g}" for x in lambdas], [f"{y:g}" for y in everys]
    limits = (float(np.nanmin(means)), float(np.nanmax(means)))
    figure = heat_map(means, ticks, written, labels=("lambda", "every (epochs)"), limits=limits)
    caption = f"{grid.name}: mean test accuracy over lambda and every; {how_selected(run.done for run in grid.runs)}."
    return Drawing(f"{grid.runs[0].dataset}-sensitivity", figure, caption)


def _table(grid: Grid) -> TableText:
    rows = [
        [f"{lambda_:g}", f"{every:g}", str(len(seeds)), over_seeds([100 * x for x in seeds.values()], 1)]
        for (lambda_, every), seeds in sorted(grid.accuracies.items())
    ]
    notes = [f"Mean and standard deviation over seeds; {how_selected(run.done for run in grid.runs)}."]
    return TableText(f"{grid.name}: accuracy by lambda and every", (*VARIED, "seeds", "accuracy"), rows, notes)
