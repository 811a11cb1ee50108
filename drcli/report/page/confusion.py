"""Confusion matrices of the test split, summed over seeds; each row adds up to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.report.figures.class_map import MOST_NAMED
from drcli.report.page.drawing import Drawing, heat_map, shortened
from drcli.report.page.section import Methods, Section
from drcli.report.page.table import folded
from drcli.report.render import TableText
from drcli.runs.collect import RunRecord
from drcli.runs.outputs import StoredOutputs
from drcli.runs.wording import how_selected

MOST_WRITTEN = 12  # classes whose cells hold their number


@dataclass(frozen=True)
class Matrix:
    """The confusion of one method.

    Attributes:
        name: of the method.
        runs: the seeds that are summed.
        classes: C names.
        shares: (C, C) of the true classes, predicted as each.
    """

    name: str
    runs: Sequence[RunRecord]
    classes: Sequence[str]
    shares: NDArray[Any]


def confusion(methods: Methods, shown: Sequence[str]) -> Section | None:
    """Return the section, or None where none of the methods shown kept its outputs."""
    found = [matrix for name in shown for matrix in _matrices(name, methods[name])]
    intro = "Rows are true classes, columns predicted ones, in per cent of the true class; summed over seeds."
    drawings = [_drawing(matrix) for matrix in found]
    tables = [folded(_table(matrix)) for matrix in found]
    return Section("Confusion matrices", intro, [*drawings, *tables]) if found else None


def _matrices(name: str, runs: Sequence[RunRecord]) -> list[Matrix]:
    """Return one matrix, or one for each set of classes where seeds saw different data."""
    kept: dict[tuple[str, ...], list[tuple[RunRecord, NDArray[Any]]]] = {}
    for run in runs:
        outputs = run.outputs()
        if outputs is not None:
            kept.setdefault(tuple(map(str, outputs.classes)), []).append((run, _counts(outputs)))
    return [
        Matrix(name, [run for run, _ in group], classes, row_shares(np.sum([counts for _, counts in group], axis=0)))
        for classes, group in kept.items()
    ]


def _drawing(of: Matrix) -> Drawing:
    named = len(of.classes) <= MOST_NAMED
    ticks = [shortened(label, 16) if named else "" for label in of.classes]
    written = _per_cent(of.shares) if len(of.classes) <= MOST_WRITTEN else None
    figure = heat_map(of.shares, (ticks, ticks), written, labels=("predicted class", "true class"), limits=(0.0, 1.0))
    seeds = f"{len(of.runs)} seed{'s' if len(of.runs) > 1 else ''}"
    caption = f"{of.name}: confusion matrix, {seeds}; {how_selected(run.done for run in of.runs)}."
    return Drawing(f"{of.runs[0].recipe_name}-{of.name}-confusion", figure, caption)


def _table(of: Matrix) -> TableText:
    """The matrix, or where it is too wide for a table the share of each class that is predicted right."""
    named = len(of.classes) <= MOST_NAMED
    columns, cells = (of.classes, of.shares) if named else (["right"], of.shares.diagonal()[:, None])
    rows = [[label, *row] for label, row in zip(of.classes, _per_cent(cells), strict=True)]
    return TableText(f"Confusion matrix of {of.name}", ["true class", *columns], rows)


def _per_cent(shares: NDArray[Any]) -> list[list[str]]:
    return [[f"{100 * share:.0f}" for share in row] for row in shares]


def _counts(outputs: StoredOutputs) -> NDArray[Any]:
    """Return (C, C) weights of rows by true and predicted class."""
    size = len(outputs.classes)
    counts = np.zeros((size, size))
    np.add.at(counts, (outputs.labels, outputs.logits.argmax(axis=1)), outputs.weight)
    return counts


def row_shares(counts: NDArray[Any]) -> NDArray[Any]:
    """Return counts (R, C) divided by the sum of their row; a row of zeros stays one."""
    totals = counts.sum(axis=1, keepdims=True)
    shares: NDArray[Any] = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return shares
