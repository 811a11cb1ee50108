"""The picture of a diagnosis: purities of each modality, and a map of its representations."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from drcli.diagnosis import ModalityDiagnosis, reading
from drcli.errors import UsageError
from drcli.report.drawing import Array, shortened
from drcli.report.figures.representations import (
    Map,
    add_class_legend,
    class_legend_height,
    draw_map,
    make_map,
)
from drcli.report.theme import METADATA, MUTED, SHADES, Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLOUR, FLOOR = SHADES
TRAIN, VALIDATION = 0.35, 1.0  # opacities of the bars
BAR = 0.28  # width of a bar; pairs stand 1 apart
MAPS_IN_ROW = 3
LONGEST_TITLE = 90


@dataclass(frozen=True)
class Diagnosed:
    """What a diagnosis found, and the maps beside it.

    Attributes:
        title: a line above it all.
        found: by modality.
        maps: of train, hollow, and validation together, by modality.
        classes: C names.
    """

    title: str
    found: Mapping[str, ModalityDiagnosis]
    maps: Mapping[str, Map]
    classes: Sequence[str]


def check_place(path: Path) -> None:
    """Refuse a picture of unknown type, or in a folder that does not exist.

    Raises:
        UsageError: the suffix is none of .png, .svg, .pdf, or there is no such folder.
    """
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or name another")
    if path.suffix.lower() not in METADATA:
        raise UsageError(f"{path}: a figure ends in {', '.join(METADATA)}, not {path.suffix!r}; rename it")


def data(
    found: Mapping[str, ModalityDiagnosis],
    features_train: Mapping[str, Array],
    labels_train: Array,
    features_val: Mapping[str, Array],
    labels_val: Array,
    *,
    classes: Sequence[str],
    theme: Theme,
    title: str = "",
) -> Diagnosed:
    """Return what is drawn of a diagnosis.

    Args:
        found: by modality.
        features_train: {m: (N, D_m)}.
        labels_train: (N,) indices into `classes`.
        features_val: {m: (M, D_m)}.
        labels_val: (M,).
        classes: C names.
        theme: says how many rows a map has.
        title: a line above it all.
    """
    labels = np.concatenate([labels_train, labels_val])
    of_train = np.arange(len(labels)) < len(labels_train)
    both = {m: np.concatenate([features_train[m], features_val[m]]) for m in found}
    maps = {m: make_map(x, labels, theme.map_rows, of_train) for m, x in both.items()}
    return Diagnosed(title, found, maps, classes)


def draw(figure: Figure, diagnosed: Diagnosed, theme: Theme) -> None:
    """Draw purities of train and validation with the floor of permuted labels; below, a map of each modality."""
    found = diagnosed.found
    columns = min(len(found), MAPS_IN_ROW)
    rows = -(-len(found) // MAPS_IN_ROW)
    width = max(7.0, 4.4 * columns)
    heights = (3.8, 0.3 + 4.5 * rows + class_legend_height(diagnosed.classes, width))
    figure.set_size_inches(width, sum(heights))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
    above.suptitle(_title(diagnosed.title), fontsize=11, color=MUTED)
    _bars(above.subplots(), found)
    grid = list(below.subplots(rows, columns, squeeze=False).flat)
    for axes, m in zip(grid, found, strict=False):
        _map(axes, diagnosed.maps[m], m, reading(found[m]), theme)
    for axes in grid[len(found) :]:
        axes.set_axis_off()
    _split_legend(below)
    add_class_legend(below, diagnosed.classes, theme)


def _title(title: str) -> str:
    """Return the title, or the end of it: of a path, the end tells more."""
    return title if len(title) <= LONGEST_TITLE else f"... {title[-LONGEST_TITLE:]}"


def _bars(axes: Axes, diagnoses: Mapping[str, ModalityDiagnosis]) -> None:
    """Draw the purities of each modality as a pair of bars, with gap and strength above."""
    found = list(diagnoses.values())
    places = np.arange(len(found), dtype=float)
    train = [(d.purity_train, d.purity_permuted_train) for d in found]
    val = [(d.purity_val, d.purity_permuted_val) for d in found]
    handles: list[Any] = [
        axes.bar(places - BAR / 2, [purity for purity, _ in train], 0.94 * BAR, color=COLOUR, alpha=TRAIN),
        axes.bar(places + BAR / 2, [purity for purity, _ in val], 0.94 * BAR, color=COLOUR, alpha=VALIDATION),
        _floors(axes, places - BAR / 2, train),
    ]
    _floors(axes, places + BAR / 2, val)
    for place, d in zip(places, found, strict=True):
        text = f"gap {d.gap:.2f}\ngap with permuted labels {d.gap_permuted:.2f}\nstrength {d.strength:.2f}"
        axes.text(place, 1.13, text, ha="center", va="bottom")
    axes.set(ylim=(0, 1.4), xlim=(-0.5, len(found) - 0.5), ylabel="purity", yticks=np.linspace(0, 1, 6))
    axes.set_xticks(places, [shortened(m) for m in diagnoses], fontsize=12, fontweight="bold")
    axes.spines["left"].set_bounds(0, 1)
    axes.grid(visible=False)
    axes.tick_params(axis="x", length=0)
    names = ["purity of train", "purity of validation", "purity with permuted labels"]
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)


def _floors(axes: Axes, places: Array, purities: Sequence[tuple[float, float]]) -> Artist:
    """Mark what permuted labels give on each bar, and write the purity above both."""
    for place, (purity, floor) in zip(places, purities, strict=True):
        axes.text(place, max(purity, floor) + 0.02, f"{purity:.2f}", ha="center", va="bottom", fontsize=9)
    floors = [floor for _, floor in purities]
    return axes.hlines(floors, places - 0.47 * BAR, places + 0.47 * BAR, colors=FLOOR, linewidths=2.5)


def _map(axes: Axes, found: Map, modality: str, text: str, theme: Theme) -> None:
    """Draw one modality: train hollow, validation filled and in front."""
    draw_map(axes, found, theme)
    axes.set_title(shortened(modality), fontsize=12, fontweight="bold", loc="left", pad=36)
    # Two lines of text fit between the map and its title.
    axes.annotate(textwrap.fill(text, 50), (0, 1), (0, 33), "axes fraction", "offset points", color=MUTED, va="top")


def _split_legend(figure: SubFigure) -> None:
    """Say above the maps what hollow and filled points are."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], ls="", marker="o", ms=6, mec=MUTED, mfc=fill) for fill in ("none", MUTED)]
    figure.legend(handles, ["train", "validation"], loc="outside upper center", ncols=2, frameon=False)
