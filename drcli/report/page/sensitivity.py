"""Sensitivity of Diagnosing & Re-learning: accuracy over lambda and the epochs between two events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from drcli import statistics
from drcli.report.collect import RunRecord
from drcli.report.page.drawing import Drawing, heat_map
from drcli.report.page.markup import Html
from drcli.report.page.section import Section
from drcli.report.page.table import to_html
from drcli.report.render import TableText

VARIED = ("lambda", "every")
Grid = Mapping[tuple[float, float], Sequence[float]]
"""Test accuracies of the seeds by (lambda, every)."""


def sensitivity(runs: Sequence[RunRecord]) -> Section | None:
    """Return the section, or None where no runs differ in lambda and every alone."""
    content: list[Html | Drawing] = []
    for dataset, grid in _grids(runs):
        content += [_drawing(dataset, grid), to_html(_table(dataset, grid))]
    intro = (
        "Mean test accuracy in per cent of runs that differ only in lambda, the slope from gap to strength, and in "
        "every, the epochs between two events. To choose among them by these numbers would be selection on test."
    )
    return Section("Sensitivity", intro, content) if content else None


def _grids(runs: Sequence[RunRecord]) -> list[tuple[str, Grid]]:
    """Return dataset and grid of each set of runs that are alike but for lambda and every."""
    found: dict[str, dict[tuple[float, float], list[float]]] = {}
    datasets: dict[str, str] = {}
    for run in runs:
        settings = run.recipe["methods"][run.label]
        if run.summary is not None and all(isinstance(settings.get(key), int | float) for key in VARIED):
            key = _everything_else(run)
            datasets[key] = run.dataset
            point = (settings["lambda"], settings["every"])
            found.setdefault(key, {}).setdefault(point, []).append(run.summary["test"]["accuracy"])
    return [(datasets[key], grid) for key, grid in found.items() if len(grid) > 1]


def _everything_else(run: RunRecord) -> str:
    """Return the resolved recipe without names, places, seed, lambda and every, as text to compare."""
    left_out = ("name", "seeds", "method", "methods")
    rest: dict[str, Any] = {key: value for key, value in run.recipe.items() if key not in left_out}
    rest["dataset"] = {key: value for key, value in run.recipe["dataset"].items() if key != "root"}
    settings = run.recipe["methods"][run.label]
    rest["settings"] = {key: value for key, value in settings.items() if key not in VARIED}
    return json.dumps(rest, sort_keys=True, default=str)


def _axes(grid: Grid) -> tuple[list[float], list[float]]:
    return sorted({lambda_ for lambda_, _ in grid}), sorted({every for _, every in grid})


def _drawing(dataset: str, grid: Grid) -> Drawing:
    lambdas, everys = _axes(grid)
    means = np.array([[fmean(grid.get((x, y), [np.nan])) for x in lambdas] for y in everys])
    written = [["" if np.isnan(mean) else f"{100 * mean:.1f}" for mean in row] for row in means]
    ticks = [f"{x:g}" for x in lambdas], [f"{y:g}" for y in everys]
    limits = (float(np.nanmin(means)), float(np.nanmax(means)))
    figure = heat_map(means, ticks, written, labels=("lambda", "every (epochs)"), limits=limits)
    return Drawing(f"{dataset}-sensitivity", figure, f"{dataset}: mean test accuracy over lambda and every.")


def _table(dataset: str, grid: Grid) -> TableText:
    rows = [
        [f"{lambda_:g}", f"{every:g}", str(len(found)), _per_cent(found)]
        for (lambda_, every), found in sorted(grid.items())
    ]
    return TableText(f"{dataset}: accuracy by lambda and every", ("lambda", "every", "seeds", "accuracy"), rows)


def _per_cent(fractions: Sequence[float]) -> str:
    std = statistics.spread(fractions)
    mean = 100 * fmean(fractions)
    return f"{mean:.1f}" if std is None else f"{mean:.1f} \N{PLUS-MINUS SIGN} {100 * std:.1f}"
