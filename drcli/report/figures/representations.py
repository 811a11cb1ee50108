"""Figure 3: t-SNE of each modality's representations, methods in rows and modalities in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from drcli.errors import DataError
from drcli.report.drawing import Array, Key, add_legend, legend_height, sample, shortened
from drcli.report.embedding import embed
from drcli.report.theme import BACKGROUND, LINE, MUTED, Theme, look
from drcli.report.wording import name_recipe
from drcli.runs.collect import RunRecord, finished
from drcli.runs.outputs import StoredOutputs
from drcli.runs.wording import how_selected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMED = 40  # classes; of more, neither numbers nor names fit
APART = 0.08  # least distance of two numbers, as a share of the map


@dataclass(frozen=True)
class Map:
    """Where the rows of one modality lie in the plane.

    Attributes:
        points: (P, 2).
        labels: (P,) class indices.
        hollow: (P,) whether a point is drawn hollow, behind the others.
        rows: how many rows there are; more than P where points were drawn from them.
    """

    points: Array
    labels: Array
    hollow: Array
    rows: int

    @property
    def shown(self) -> str:
        """How many rows are points: "30 rows", or "300 of 600 rows, drawn at random"."""
        drawn = len(self.points)
        return f"{self.rows} rows" if drawn == self.rows else f"{drawn} of {self.rows} rows, drawn at random"


@dataclass(frozen=True)
class Row:
    """The maps of one run.

    Attributes:
        run: the run.
        maps: by modality; None where a number of the features is not finite.
        classes: C names.
    """

    run: RunRecord
    maps: Mapping[str, Map | None]
    classes: Sequence[str]

    def probe(self, modality: str) -> str:
        """Return the accuracy of the modality's linear probe."""
        return self.run.task.first.text(self.run.done.unimodal[modality].score)


def make_map(features: Array, labels: Array, most_rows: int, hollow: Array | None = None) -> Map:
    """Return the map of features; the same arguments give the same map.

    Args:
        features: (N, D), finite.
        labels: (N,) class indices.
        most_rows: of more, so many are drawn at random.
        hollow: (N,) which points are drawn hollow; None for none.
    """
    hollow = np.zeros(len(labels), dtype=bool) if hollow is None else hollow
    rows, points = embed(features.astype(np.float32), most_rows)
    return Map(points, labels[rows], hollow[rows], len(labels))


def row_of(run: RunRecord, most_rows: int) -> Row | None:
    """Return the maps of a run's test split, or None where it kept no outputs."""
    outputs = run.outputs()
    if outputs is None:
        return None
    features = {m: outputs.features[m] for m in run.modalities if m in outputs.features}
    maps = {m: _finite_map(x, outputs, most_rows) for m, x in features.items()}
    return Row(run, maps, [str(name) for name in outputs.classes])


def _finite_map(features: Array, outputs: StoredOutputs, most_rows: int) -> Map | None:
    return make_map(features, outputs.labels, most_rows) if np.isfinite(features).all() else None


def data(runs: Sequence[RunRecord], most_rows: int) -> list[Row]:
    """Return the maps of each method on all modalities, of the first seed that all of them share.

    Raises:
        DataError: no seed is finished for every method, or a run kept no test outputs.
    """
    chosen = _of_one_seed([run for run in finished(runs) if run.modality is None])
    found = [(run, row_of(run, most_rows)) for run in chosen]
    for run, row in found:
        if row is None:
            raise DataError(f"{run.folder}: no outputs of the test split were kept; train it again with --fresh")
    return [row for _, row in found if row is not None]


def _of_one_seed(runs: Sequence[RunRecord]) -> list[RunRecord]:
    names = list(dict.fromkeys((run.recipe_name, run.name) for run in runs))
    for seed in sorted({run.seed for run in runs}):
        of_seed = [run for run in runs if run.seed == seed]
        if len(of_seed) == len(names):
            return of_seed
    raise DataError("figure of test representations: no seed is finished for every method; repeat the command")


def draw(figure: Figure, rows: Sequence[Row], theme: Theme) -> None:
    """Draw the maps, methods in rows and modalities in columns, and below them the classes."""
    modalities = list(dict.fromkeys(m for row in rows for m in row.maps))
    classes = list(dict.fromkeys(name for row in rows for name in row.classes))
    width = 4.2 * len(modalities)
    figure.set_size_inches(width, 0.6 + 4.0 * len(rows) + class_legend_height(classes, width))
    runs = [row.run for row in rows]
    selected = how_selected(run.done for run in runs)
    title = f"{name_recipe(runs)}: representations of the test split, seed {runs[0].seed}\nepochs {selected}"
    figure.suptitle(title, fontsize=10, color=MUTED)
    grid = figure.subplots(len(rows), len(modalities), squeeze=False)
    for row, line in zip(rows, grid, strict=True):
        for m, axes in zip(modalities, line, strict=True):
            _draw_panel(axes, row, m, theme)
    add_class_legend(figure, classes, theme)


def _draw_panel(axes: Axes, row: Row, modality: str, theme: Theme) -> None:
    found = row.maps.get(modality)
    if found is None:
        axes.set_axis_off()
        return
    draw_map(axes, found, theme)
    title = f"{row.run.name}: {modality} (linear probe {row.probe(modality)})"
    axes.set_title(title, loc="left", fontsize=10)


def draw_map(axes: Axes, found: Map, theme: Theme) -> None:
    """Scatter representations in two dimensions, colour and marker by class, and number the classes."""
    for number in np.unique(found.labels):
        colour, marker = look(int(number))
        of_class = found.labels == number
        for hollow, order in ((True, 2), (False, 3)):
            points = found.points[of_class & (found.hollow == hollow)]
            fill: dict[str, Any] = {"mfc": "none", "alpha": 0.7} if hollow else {"mec": BACKGROUND, "mew": 0.3}
            if len(points):
                axes.plot(*points.T, marker, ms=theme.dot_size, color=colour, zorder=order, **fill)
    axes.set(xticks=[], yticks=[], xlabel=f"t-SNE 1 ({found.shown})", ylabel="t-SNE 2")
    axes.spines[:].set(visible=True, color=LINE)
    axes.grid(visible=False)
    axes.margins(0.04)
    if found.labels.max() < MOST_NAMED:
        _write_numbers(axes, number_places(found.points, found.labels), theme)


def _write_numbers(axes: Axes, places: Mapping[int, Array], theme: Theme) -> None:
    from matplotlib.patheffects import withStroke

    halo = withStroke(linewidth=3, foreground=BACKGROUND)
    size = 2.8 * theme.dot_size
    for number, (x, y) in places.items():
        axes.text(x, y, str(number), ha="center", va="center", size=size, weight="bold", path_effects=[halo], zorder=4)


def number_places(points: Array, labels: Array) -> dict[int, Array]:
    """Return where the number of each class is written: on its point nearest to its median, apart from other numbers.

    A class with all its points next to other numbers has none.

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


def class_keys(classes: Sequence[str], theme: Theme) -> list[Key]:
    """Return the lines of a legend of the classes: colour, marker, number, name; none where there are too many."""
    if len(classes) > MOST_NAMED:
        return []
    return [(sample(theme, look(number)), name) for number, name in enumerate(_numbered(classes))]


def add_class_legend(figure: Figure, classes: Sequence[str], theme: Theme) -> None:
    """Put the legend of the classes below everything; nothing where there are too many."""
    keys = class_keys(classes, theme)
    if keys:
        add_legend(figure, keys, theme, title=None if theme.grows else "class")


def class_legend_height(classes: Sequence[str], width: float) -> float:
    """Return the inches that `add_class_legend` takes from a figure that is `width` inches wide."""
    return legend_height(_numbered(classes), width) if len(classes) <= MOST_NAMED else 0.0


def _numbered(classes: Sequence[str]) -> list[str]:
    short = [shortened(name) for name in classes]
    return [name if name == str(number) else f"{number} {name}" for number, name in enumerate(short)]
