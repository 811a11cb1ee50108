"""Maps of representations: points by class, a number where a class lies, and the legend of the classes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from drcli.report.embedding import Array
from drcli.report.style import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

MOST_NAMED = 40  # classes; of more, neither numbers nor names would find room
APART = 0.08  # least distance of two numbers, as a share of the map
LONGEST_NAME = 24
LETTERS_PER_INCH, LINE = 13, 0.2  # of a legend in 9 points; the height of its lines in inches


def draw_map(axes: Axes, points: Array, labels: Array, rows: int, hollow: Array | None = None) -> None:
    """Scatter representations in two dimensions, colour and shape by class, and number the classes.

    Args:
        axes: where to.
        points: (P, 2).
        labels: (P,) class indices.
        rows: how many rows there are; where more than P, the points were drawn from them.
        hollow: (P,) which points are drawn hollow, behind the others; None for none.
    """
    hollow = np.zeros(len(points), dtype=bool) if hollow is None else hollow
    for number in np.unique(labels):
        colour, marker = look(int(number))
        behind, before = points[(labels == number) & hollow], points[(labels == number) & ~hollow]
        (x, y), (x_before, y_before) = behind.T, before.T
        axes.scatter(x, y, s=16, marker=marker, facecolors="none", edgecolors=colour, alpha=0.7, zorder=2)
        axes.scatter(
            x_before, y_before, s=20, marker=marker, color=colour, edgecolors="white", linewidths=0.4, zorder=3
        )
    shown = f"{rows} rows" if len(points) == rows else f"{len(points)} of {rows} rows, drawn at random"
    axes.set(xticks=[], yticks=[], xlabel=f"t-SNE 1 ({shown})", ylabel="t-SNE 2")
    axes.spines[:].set(visible=True, color="#cccccc")
    axes.margins(0.04)
    if labels.max() < MOST_NAMED:
        _write_numbers(axes, number_places(points, labels))


def _write_numbers(axes: Axes, places: Mapping[int, Array]) -> None:
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=3, foreground="white")
    for number, (x, y) in places.items():
        axes.text(x, y, str(number), ha="center", va="center", size=12, weight="bold", path_effects=[halo], zorder=4)


def number_places(points: Array, labels: Array) -> dict[int, Array]:
    """Return where the number of each class stands: on its point nearest to its median, apart from other numbers.

    A class whose points all lie next to other numbers has none.

    Args:
        points: (P, 2).
        labels: (P,) class indices.
    """
    size = np.maximum(np.ptp(points, axis=0), 1e-12)
    places: dict[int, Array] = {}
    for number in np.unique(labels):
        own = points[labels == number]
        order = np.argsort((((own - np.median(own, axis=0)) / size) ** 2).sum(axis=1), kind="stable")
        taken = np.array(list(places.values())).reshape(-1, 1, 2)
        free = (np.linalg.norm((own[order] - taken) / size, axis=2) >= APART).all(axis=0)
        if free.any():
            places[int(number)] = own[order][free.argmax()]
    return places


def add_class_legend(figure: Figure | SubFigure, class_names: Sequence[str]) -> None:
    """Put colour, shape, number and name of each class below everything; nothing where there are too many."""
    from matplotlib.lines import Line2D

    if len(class_names) > MOST_NAMED:
        return
    looks = map(look, range(len(class_names)))
    handles = [Line2D([], [], ls="", marker=marker, ms=6, color=colour) for colour, marker in looks]
    names = _numbered(class_names)
    legend = figure.legend(
        handles,
        ["-"] * len(names),
        title="class",
        loc="outside lower center",
        ncols=_columns(names, figure.bbox.width / figure.dpi),
        frameon=False,
        fontsize=9,
    )
    # Named afterwards: matplotlib leaves out names that begin with "_" and reads "$" as mathematics.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)


def legend_height(class_names: Sequence[str], width: float) -> float:
    """Return the inches that `add_class_legend` takes from a figure that is `width` inches wide."""
    if len(class_names) > MOST_NAMED:
        return 0.0
    return LINE * (2 - (-len(class_names) // _columns(_numbered(class_names), width)))  # 2: title and margins


def _columns(names: Sequence[str], width: float) -> int:
    room = int(width * LETTERS_PER_INCH / (max(map(len, names)) + 6))  # 6: the point, and room beside it
    return max(1, min(len(names), room))


def _numbered(class_names: Sequence[str]) -> list[str]:
    short = [textwrap.shorten(name, LONGEST_NAME, placeholder="...") for name in class_names]
    return [name if name == str(number) else f"{number} {name}" for number, name in enumerate(short)]
