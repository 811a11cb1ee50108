"""The picture of a diagnosis: purities of each modality, and a map of its representations."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from drcli.diagnosis import ModalityDiagnosis, reading
from drcli.errors import UsageError
from drcli.report.embedding import Array, Map, embed
from drcli.report.style import GREY, METADATA, look, write_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TRAIN, VALIDATION, FLOOR = "#b9cde4", "#2b5c8f", "#e76300"
BAR = 0.28  # width of a bar; pairs stand 1 apart
MOST_IN_LEGEND = 40
MAPS_IN_ROW = 3


def check_place(path: Path) -> None:
    """Refuse a picture whose type is not known, or whose folder is not there.

    Raises:
        UsageError: the suffix is none of .png, .svg, .pdf, or there is no such folder.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or name another")
    if path.suffix.lower() not in METADATA:
        raise UsageError(f"{path}: a figure ends in {', '.join(METADATA)}, not {path.suffix!r}; rename it")


def draw(
    path: Path,
    diagnoses: Mapping[str, ModalityDiagnosis],
    features_train: Mapping[str, Tensor],
    labels_train: Tensor,
    features_val: Mapping[str, Tensor],
    labels_val: Tensor,
    *,
    class_names: Sequence[str],
    title: str = "",
) -> None:
    """Write the picture of a diagnosis; the same arguments give the same bytes.

    Above, purities of train and validation with the floor of permuted labels; below, for each modality,
    its representations in two dimensions (t-SNE; at most 1000 rows, drawn at random).

    Args:
        path: where to; the suffix decides between PNG, SVG and PDF.
        diagnoses: findings by modality.
        features_train: {m: (N, D_m)}.
        labels_train: (N,) indices into `class_names`.
        features_val: {m: (M, D_m)}.
        labels_val: (M,).
        class_names: C names.
        title: a line above it all.

    Raises:
        UsageError: the suffix is unknown.
        RunError: the file cannot be written.
    """
    check_place(path)
    maps = {m: embed(features_train[m], labels_train, features_val[m], labels_val) for m in diagnoses}
    write_figure(path, lambda: _figure(diagnoses, maps, class_names, title))


def _figure(
    diagnoses: Mapping[str, ModalityDiagnosis],
    maps: Mapping[str, Map],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    from matplotlib.figure import Figure  # never pyplot: it keeps every figure, and picks a screen

    columns = min(len(diagnoses), MAPS_IN_ROW)
    rows = -(-len(diagnoses) // MAPS_IN_ROW)
    figure = Figure(figsize=(max(7.0, 4.4 * columns), 3.8 + 4.8 * rows), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.8, 4.8 * rows]).flat
    above.suptitle(_shortened(title), fontsize=11, color=GREY, parse_math=False)
    _bars(above.subplots(), diagnoses)
    grid = list(below.subplots(rows, columns, squeeze=False).flat)
    for axes, m in zip(grid, diagnoses, strict=False):
        _map(axes, maps[m], m, reading(diagnoses[m]))
    for axes in grid[len(diagnoses) :]:
        axes.set_axis_off()
    _map_legend(below, class_names)
    return figure


def _shortened(title: str, width: int = 90) -> str:
    """Return the title, or the end of it: of a path, the end tells more."""
    return title if len(title) <= width else f"... {title[-width:]}"


def _bars(axes: Axes, diagnoses: Mapping[str, ModalityDiagnosis]) -> None:
    """Draw the purities of each modality as a pair of bars, with gap and strength above."""
    found = list(diagnoses.values())
    places = np.arange(len(found), dtype=float)
    train = [(d.purity_train, d.purity_permuted_train) for d in found]
    val = [(d.purity_val, d.purity_permuted_val) for d in found]
    handles: list[Any] = [
        axes.bar(places - BAR / 2, [purity for purity, _ in train], 0.94 * BAR, color=TRAIN),
        axes.bar(places + BAR / 2, [purity for purity, _ in val], 0.94 * BAR, color=VALIDATION),
        _floors(axes, places - BAR / 2, train),
    ]
    _floors(axes, places + BAR / 2, val)
    for place, d in zip(places, found, strict=True):
        text = f"gap {d.gap:.2f} (labels permuted: {d.gap_permuted:.2f})\nstrength {d.strength:.2f}"
        axes.text(place, 1.13, text, ha="center", va="bottom")
    axes.set(ylim=(0, 1.3), xlim=(-0.5, len(found) - 0.5), ylabel="purity", yticks=np.linspace(0, 1, 6))
    axes.set_xticks(places, list(diagnoses), fontsize=12, fontweight="bold", parse_math=False)
    axes.spines["left"].set_bounds(0, 1)
    axes.tick_params(axis="x", length=0)
    names = ["train", "validation", "the same clusters, labels permuted"]
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)


def _floors(axes: Axes, places: Array, purities: Sequence[tuple[float, float]]) -> Artist:
    """Mark what permuted labels give on each bar, and write the purity above both."""
    for place, (purity, floor) in zip(places, purities, strict=True):
        axes.text(place, max(purity, floor) + 0.02, f"{purity:.2f}", ha="center", va="bottom", fontsize=9)
    floors = [floor for _, floor in purities]
    return axes.hlines(floors, places - 0.47 * BAR, places + 0.47 * BAR, colors=FLOOR, linewidths=2.5)


def _map(axes: Axes, found: Map, modality: str, text: str) -> None:
    """Scatter one modality: train hollow, validation filled and in front, colour and shape by class."""
    for number in np.unique(found.labels):
        colour, marker = look(int(number))
        train = found.points[(found.labels == number) & ~found.is_val]
        val = found.points[(found.labels == number) & found.is_val]
        axes.scatter(
            train[:, 0],
            train[:, 1],
            s=16,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            alpha=0.7,
            zorder=2,
        )
        axes.scatter(
            val[:, 0],
            val[:, 1],
            s=20,
            marker=marker,
            color=colour,
            edgecolors="white",
            linewidths=0.4,
            zorder=3,
        )
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="#cccccc")
    axes.margins(0.04)
    axes.set_title(modality, fontsize=12, fontweight="bold", loc="left", pad=36, parse_math=False)
    # Two lines of text fit between the map and its title.
    axes.annotate(textwrap.fill(text, 50), (0, 1), (0, 33), "axes fraction", "offset points", color=GREY, va="top")


def _map_legend(figure: SubFigure, class_names: Sequence[str]) -> None:
    """Put what colours, shapes and filling mean below the maps."""
    from matplotlib.lines import Line2D

    def point(colour: str, marker: str, fill: str) -> Artist:
        return Line2D([], [], ls="", marker=marker, ms=6, mec=colour, mfc=fill)

    handles = [point("#333333", "o", "none"), point("#333333", "o", "#333333")]
    names = ["train", "validation"]
    if len(class_names) <= MOST_IN_LEGEND:
        handles += [point(colour, marker, colour) for colour, marker in map(look, range(len(class_names)))]
        names += [textwrap.shorten(name, 24, placeholder="...") for name in class_names]
    # Named afterwards: matplotlib leaves out names that begin with "_" and reads "$" as mathematics.
    legend = figure.legend(
        handles,
        ["-"] * len(names),
        loc="outside lower center",
        ncols=min(len(names), 12),
        frameon=False,
        fontsize=9,
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)
