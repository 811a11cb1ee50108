"""Confusion matrices of the test split, summed over seeds; each row adds up to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drcli.report.drawing import draw_heat_map, shortened
from drcli.report.theme import Theme
from drcli.report.wording import Methods
from drcli.runs.collect import RunRecord
from drcli.runs.outputs import StoredOutputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMED = 40  # classes; of more, the names do not fit
MOST_WRITTEN = 12  # classes; of more, the numbers of the cells do not fit


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

    @property
    def ticks(self) -> list[str]:
        """Names of rows and columns, empty where there are too many classes."""
        return [shortened(name, 16) if len(self.classes) <= MOST_NAMED else "" for name in self.classes]


def data(methods: Methods, shown: Sequence[str]) -> list[Matrix]:
    """Return a matrix of each method shown, or one for each set of classes where its seeds saw different data."""
    return [matrix for name in shown for matrix in _matrices(name, methods[name])]


def _matrices(name: str, runs: Sequence[RunRecord]) -> list[Matrix]:
    kept: dict[tuple[str, ...], list[tuple[RunRecord, NDArray[Any]]]] = {}
    for run in runs:
        outputs = run.outputs()
        if outputs is not None:
            kept.setdefault(tuple(map(str, outputs.classes)), []).append((run, _counts(outputs)))
    return [
        Matrix(name, [run for run, _ in group], classes, row_shares(np.sum([counts for _, counts in group], axis=0)))
        for classes, group in kept.items()
    ]


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


def per_cent(shares: NDArray[Any]) -> list[list[str]]:
    """Return shares as whole per cent."""
    return [[f"{100 * share:.0f}" for share in row] for row in shares]


def draw(axes: Axes, found: Matrix, theme: Theme) -> None:  # noqa: ARG001 - as the other figures
    """Draw a matrix, with its numbers where they fit."""
    written = per_cent(found.shares) if len(found.classes) <= MOST_WRITTEN else None
    labels = ("predicted class", "true class")
    draw_heat_map(axes, found.shares, (found.ticks, found.ticks), written, labels=labels, limits=(0.0, 1.0))
