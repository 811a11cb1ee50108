"""Confusion matrices of the test split, summed over seeds; each row adds up to one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.report.collect import RunRecord
from drcli.report.page.drawing import Drawing, heat_map, shortened
from drcli.report.page.section import Methods, Section

MOST_WRITTEN = 12  # classes whose cells hold their number
MOST_NAMED = 40


def confusion(methods: Methods, shown: Sequence[str]) -> Section | None:
    """Return the section, or None where none of the methods shown kept its outputs."""
    drawings = [drawing for name in shown if (drawing := _drawing(name, methods[name])) is not None]
    intro = "Rows are true classes, columns predicted ones, in per cent of the true class; summed over seeds."
    return Section("Confusion matrices", intro, drawings) if drawings else None


def _drawing(name: str, runs: Sequence[RunRecord]) -> Drawing | None:
    kept = [outputs for run in runs if (outputs := run.outputs()) is not None]
    if not kept:
        return None
    shares = row_shares(np.sum([_counts(outputs) for outputs in kept], axis=0))
    classes = [str(label) for label in kept[0]["classes"]]
    ticks = [shortened(label, 16) for label in classes] if len(classes) <= MOST_NAMED else [""] * len(classes)
    written = [[f"{100 * share:.0f}" for share in row] for row in shares] if len(classes) <= MOST_WRITTEN else None
    figure = heat_map(shares, (ticks, ticks), written, labels=("predicted class", "true class"), limits=(0.0, 1.0))
    seeds = f"{len(kept)} seed{'s' if len(kept) > 1 else ''}"
    return Drawing(f"{runs[0].recipe_name}-{name}-confusion", figure, f"{name}: confusion matrix, {seeds}.")


def _counts(outputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return (C, C) weights of rows by true and predicted class."""
    size = len(outputs["classes"])
    counts = np.zeros((size, size))
    np.add.at(counts, (outputs["labels"], outputs["logits"].argmax(axis=1)), outputs["weight"])
    return counts


def row_shares(counts: NDArray[Any]) -> NDArray[Any]:
    """Return counts (R, C) divided by the sum of their row; a row of zeros stays one."""
    totals = counts.sum(axis=1, keepdims=True)
    shares: NDArray[Any] = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return shares
