"""Figure 1: what each method changes against joint training, and what it leaves of each encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drcli.errors import DataError
from drcli.report.collect import RunRecord, by_recipe
from drcli.report.comparison import Row, compare, how_selected
from drcli.report.style import GREY, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = (60.0, 420.0)  # areas of the worst and the best method, in points squared


def figure(runs: Sequence[RunRecord]) -> Figure:
    """Return a row of two pictures for each recipe of the runs.

    Left, the mean difference in test accuracy to joint training, with the 95 % interval of Student's t
    over seeds. Right, linear-probe accuracies of the first two modalities, the area of a point by the
    multimodal accuracy; dashed, the probes of encoders trained alone.

    Raises:
        DataError: no recipe has joint training and another method with probes of two modalities.
    """
    from matplotlib.figure import Figure

    recipes = {name: compare(group) for name, group in by_recipe(runs).items()}
    recipes = {name: rows for name, rows in recipes.items() if any(row.difference for row in _multimodal(rows))}
    if not recipes:
        raise DataError("figure of the noisy case: it needs finished runs of joint training and of another method")
    out = Figure(figsize=(10, 4.2 * len(recipes)), layout="constrained")
    grid = out.subplots(len(recipes), 2, squeeze=False)
    out.suptitle(f"Test scores, {how_selected(runs)}", fontsize=10, color=GREY)
    for (name, rows), (left, right) in zip(recipes.items(), grid, strict=True):
        _bars(left, _multimodal(rows))
        _scatter(right, rows)
        left.set_title(name, loc="left", fontweight="bold", parse_math=False)
    return out


def _multimodal(rows: Sequence[Row]) -> list[Row]:
    """Methods on all modalities, with a probe of two of them at least."""
    return [row for row in rows if row.modality is None and len(row.probes) > 1]


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    compared = [row for row in rows if row.difference is not None]
    for place, row in enumerate(compared):
        found = row.difference
        assert found is not None
        axes.barh(place, 100 * found.mean, height=0.6, color=look(rows.index(row))[0])
        if found.t95 is not None:
            axes.hlines(place, 100 * found.t95[0], 100 * found.t95[1], colors=GREY, linewidths=1.5)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(compared)), [row.name for row in compared], parse_math=False)
    axes.set_ylim(max(len(compared), 3) - 0.5, -0.5)  # from top to bottom
    axes.set_xlabel("accuracy minus joint (points, 95 % interval)")


def _scatter(axes: Axes, rows: Sequence[Row]) -> None:
    points = _multimodal(rows)
    first, second = list(points[0].probes)[:2]
    low, high = min(row.accuracy for row in points), max(row.accuracy for row in points)
    for number, row in enumerate(points):
        share = (row.accuracy - low) / (high - low) if high > low else 1.0
        x, y = 100 * row.probes[first], 100 * row.probes[second]
        area = SIZES[0] + share * (SIZES[1] - SIZES[0])
        axes.scatter(x, y, s=area, color=look(number)[0], marker=look(number)[1], alpha=0.8, edgecolors="white")
        text = f"{row.name} {100 * row.accuracy:.1f}"
        axes.annotate(text, (x, y), (0, 12), textcoords="offset points", ha="center", fontsize=8, parse_math=False)
    alone = {m: 100 * row.probes[m] for row in rows if (m := row.modality) is not None and m in row.probes}
    if first in alone:
        axes.axvline(alone[first], color=GREY, linestyle="--", linewidth=1)
    if second in alone:
        axes.axhline(alone[second], color=GREY, linestyle="--", linewidth=1)
    axes.margins(0.18)
    axes.set_xlabel(f"{first} probe (%; area: multimodal accuracy)", parse_math=False)
    axes.set_ylabel(f"{second} probe (%; dashed: trained alone)", parse_math=False)
