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
from drcli.report.figures.class_map import add_class_legend, draw_map, legend_height
from drcli.report.style import GREY, METADATA, write_figure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TRAIN, VALIDATION, FLOOR = "#b9cde4", "#2b5c8f", "#e76300"
BAR = 0.28  # width of a bar; pairs stand 1 apart
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
    its representations in two dimensions (t-SNE; at most 1000 rows; of more they are drawn at random).

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
    width = max(7.0, 4.4 * columns)
    heights = (3.8, 0.3 + 4.5 * rows + legend_height(class_names, width))
    figure = Figure(figsize=(width, sum(heights)), layout="constrained")
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
    above.suptitle(_shortened(title), fontsize=11, color=GREY, parse_math=False)
    _bars(above.subplots(), diagnoses)
    grid = list(below.subplots(rows, columns, squeeze=False).flat)
    for axes, m in zip(grid, diagnoses, strict=False):
        _map(axes, maps[m], m, reading(diagnoses[m]))
    for axes in grid[len(diagnoses) :]:
        axes.set_axis_off()
    _split_legend(below)
    add_class_legend(below, class_names)
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
        text = f"gap {d.gap:.2f}\ngap with permuted labels {d.gap_permuted:.2f}\nstrength {d.strength:.2f}"
        axes.text(place, 1.13, text, ha="center", va="bottom")
    axes.set(ylim=(0, 1.4), xlim=(-0.5, len(found) - 0.5), ylabel="purity", yticks=np.linspace(0, 1, 6))
    axes.set_xticks(places, list(diagnoses), fontsize=12, fontweight="bold", parse_math=False)
    axes.spines["left"].set_bounds(0, 1)
    axes.tick_params(axis="x", length=0)
    names = ["purity of train", "purity of validation", "purity with permuted labels"]
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)


def _floors(axes: Axes, places: Array, purities: Sequence[tuple[float, float]]) -> Artist:
    """Mark what permuted labels give on each bar, and write the purity above both."""
    for place, (purity, floor) in zip(places, purities, strict=True):
        axes.text(place, max(purity, floor) + 0.02, f"{purity:.2f}", ha="center", va="bottom", fontsize=9)
    floors = [floor for _, floor in purities]
    return axes.hlines(floors, places - 0.47 * BAR, places + 0.47 * BAR, colors=FLOOR, linewidths=2.5)


def _map(axes: Axes, found: Map, modality: str, text: str) -> None:
    """Draw one modality: train hollow, validation filled and in front."""
    draw_map(axes, found.points, found.labels, found.rows, hollow=~found.is_val)
    axes.set_title(modality, fontsize=12, fontweight="bold", loc="left", pad=36, parse_math=False)
    # Two lines of text fit between the map and its title.
    axes.annotate(textwrap.fill(text, 50), (0, 1), (0, 33), "axes fraction", "offset points", color=GREY, va="top")


def _split_legend(figure: SubFigure) -> None:
    """Say above the maps what hollow and filled points are."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], ls="", marker="o", ms=6, mec=GREY, mfc=fill) for fill in ("none", GREY)]
    figure.legend(handles, ["train", "validation"], loc="outside upper center", ncols=2, frameon=False)
