"""Maps of the test split's representations by t-SNE, one a modality, of one seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drcli.report.embedding import principal_components, tsne
from drcli.report.figures.class_map import MOST_NAMED
from drcli.report.page.drawing import Drawing, add_legend, panel, point_look, style
from drcli.report.page.markup import Html, element
from drcli.report.page.section import Methods, Section
from drcli.runs.collect import RunRecord
from drcli.runs.outputs import StoredOutputs
from drcli.runs.wording import how_selected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_ROWS = 300
HEIGHT = 3.2  # inches


def maps(methods: Methods, shown: Sequence[str]) -> Section | None:
    """Return the section, or None where none of the methods shown kept its outputs."""
    content = [item for name in shown for item in _of_run(name, methods[name][0])]
    intro = (
        f"t-SNE of at most {MOST_ROWS} rows of the test split, each dimension scaled to [-1, 1]. Colour and shape "
        "are the true class. Distances between groups mean little; how well classes part is what to look at."
    )
    return Section("Maps of representations", intro, content) if content else None


def number_of_maps(methods: Methods, shown: Sequence[str]) -> int:
    """Return how many maps these methods would have; each takes most of a second."""
    return sum(1 if methods[name][0].modality else len(methods[name][0].recipe.modalities) for name in shown)


def _of_run(name: str, run: RunRecord) -> list[Html | Drawing]:
    outputs = run.outputs()
    if outputs is None:
        return []
    return [_map(name, run, m, outputs) for m in run.recipe.modalities if m in outputs.features]


def _map(name: str, run: RunRecord, modality: str, outputs: StoredOutputs) -> Html | Drawing:
    """Return the map, or a line where there can be none: what diverged is not finite."""
    features = outputs.features[modality]
    what = f"{name}, seed {run.seed}: representations of {modality}"
    if not np.isfinite(features).all():
        return element("p", f"{what}. Not every number of them is finite; there is no map.", class_="intro")
    figure = _scatter(features, outputs.labels, [str(label) for label in outputs.classes])
    rows = len(features)
    drawn = f"; {MOST_ROWS} of {rows} rows, drawn at random" if rows > MOST_ROWS else ""
    return Drawing(f"{run.recipe_name}-{name}-{modality}-map", figure, f"{what}{drawn}; {how_selected([run.done])}.")


def _scatter(features: NDArray[Any], labels: NDArray[Any], classes: Sequence[str]) -> Figure:
    rows = np.random.default_rng(0).permutation(len(features))[:MOST_ROWS]
    points, labels = tsne(principal_components(scaled(features[rows]))), labels[rows]
    with style():
        figure, axes = panel(HEIGHT, left=0.14, bottom=0.14)
        handles = [
            axes.plot(*points[labels == number].T, linestyle="", markersize=3.6, **point_look(number))[0]
            for number in range(len(classes))
        ]
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        if len(classes) <= MOST_NAMED:
            add_legend(figure, axes, handles, classes)
    return figure


def scaled(features: NDArray[Any]) -> NDArray[Any]:
    """Return features (N, D) scaled linearly so that each dimension spans [-1, 1]; a constant one becomes -1."""
    wide = features.astype(np.float64)
    low, spread = wide.min(axis=0), np.ptp(wide, axis=0)
    placed: NDArray[Any] = 2 * (wide - low) / np.where(spread > 0, spread, 1) - 1
    return placed
