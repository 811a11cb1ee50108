"""Figure 1: what each method changes against joint training, and what it leaves of each encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from drcli.errors import DataError
from drcli.report.figures.wording import count_seeds, name_recipe, per_cent
from drcli.report.style import GREY, look
from drcli.runs.collect import RunRecord, by_recipe, finished
from drcli.runs.comparison import Row, compare
from drcli.runs.wording import how_selected

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

    groups = by_recipe(runs)
    recipes = {name: compare(group) for name, group in groups.items()}
    recipes = {name: rows for name, rows in recipes.items() if any(row.difference for row in _multimodal(rows))}
    if not recipes:
        raise DataError("figure of the noisy case: it needs finished runs of joint training and of another method")
    out = Figure(figsize=(10, 4.4 * len(recipes)), layout="constrained")
    grid = out.subplots(len(recipes), 2, squeeze=False)
    out.suptitle(f"Test scores, {how_selected(run.done for run in finished(runs))}", fontsize=10, color=GREY)
    for (name, rows), (left, right) in zip(recipes.items(), grid, strict=True):
        points = _multimodal(rows)
        _bars(left, points)
        _scatter(right, points)
        _trained_alone(right, rows, points)
        _legend(right, points)
        title = f"{name_recipe(groups[name])}, {count_seeds([row.n for row in points])}"
        left.set_title(title, loc="left", fontsize=11, fontweight="bold", parse_math=False)
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
            for colour, width in (("white", 3.5), (GREY, 1.5)):  # seen on dark bars too
                axes.hlines(place, 100 * found.t95[0], 100 * found.t95[1], colors=colour, linewidths=width)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_yticks(range(len(compared)), [row.name for row in compared], parse_math=False)
    axes.set_ylim(max(len(compared), 3) - 0.5, -0.5)  # from top to bottom
    axes.set_xlabel("accuracy minus joint training (points)\nmean over seeds, and its 95 % interval")


def _scatter(axes: Axes, points: Sequence[Row]) -> None:
    first, second = list(points[0].probes)[:2]
    low, high = min(row.accuracy.mean for row in points), max(row.accuracy.mean for row in points)
    for number, row in enumerate(points):
        share = (row.accuracy.mean - low) / (high - low) if high > low else 1.0
        x, y = 100 * row.probes[first].mean, 100 * row.probes[second].mean
        area = SIZES[0] + share * (SIZES[1] - SIZES[0])
        colour, marker = look(number)
        axes.scatter(x, y, s=area, color=colour, marker=marker, alpha=0.8, edgecolors="white")
    axes.margins(0.18)
    axes.set_xlabel(f"linear probe of {first}: accuracy (%)", parse_math=False)
    axes.set_ylabel(f"linear probe of {second}: accuracy (%)", parse_math=False)


def _trained_alone(axes: Axes, rows: Sequence[Row], points: Sequence[Row]) -> None:
    """Draw the probes of encoders trained alone."""
    first, second = list(points[0].probes)[:2]
    alone = {m: 100 * row.probes[m].mean for row in rows if (m := row.modality) is not None and m in row.probes}
    if first in alone:
        axes.axvline(alone[first], color=GREY, linestyle="--", linewidth=1)
    if second in alone:
        axes.axhline(alone[second], color=GREY, linestyle="--", linewidth=1)


def _legend(axes: Axes, points: Sequence[Row]) -> None:
    """Name the methods beside the picture: written at the points, names of near ones would cover each other."""
    from matplotlib.lines import Line2D

    looks = map(look, range(len(points)))
    handles = [Line2D([], [], ls="", marker=marker, ms=8, color=colour) for colour, marker in looks]
    names = [f"{row.name}: {per_cent(row.accuracy.mean, row.accuracy.std)}" for row in points]
    if any(line.get_linestyle() == "--" for line in axes.lines):
        handles.append(Line2D([], [], ls="--", lw=1, color=GREY))
        names.append("encoder trained alone")
    legend = axes.legend(
        handles,
        ["-"] * len(names),
        title="multimodal accuracy (%),\nalso the area of a point",
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        fontsize=9,
        title_fontsize=9,
        frameon=False,
    )
    # Named afterwards: matplotlib leaves out names that begin with "_" and reads "$" as mathematics.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)
