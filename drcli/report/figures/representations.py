"""Figure 3: t-SNE of each modality's test representations, joint training against D&R."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from drcli.errors import DataError
from drcli.report.collect import RunRecord
from drcli.report.comparison import how_selected
from drcli.report.embedding import Array, embed_features
from drcli.report.style import look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_IN_LEGEND = 40


def figure(runs: Sequence[RunRecord]) -> Figure:
    """Return a map for each method (rows) and modality (columns), of the first seed that all methods share.

    Raises:
        DataError: no seed is finished for every method, or a run kept no test outputs.
    """
    from matplotlib.figure import Figure

    chosen = _of_one_seed([run for run in runs if run.summary is not None and run.modality is None])
    outputs = [_outputs(run) for run in chosen]
    modalities = list(chosen[0].recipe["modalities"])
    out = Figure(figsize=(4.2 * len(modalities), 3.9 * len(chosen) + 0.6), layout="constrained")
    grid = out.subplots(len(chosen), len(modalities), squeeze=False)
    for run, found, line in zip(chosen, outputs, grid, strict=True):
        for m, axes in zip(modalities, line, strict=True):
            _map(axes, found[f"features_{m}"], found["labels"])
            probe = (run.summary or {})["unimodal"][m]["probe_accuracy"]
            axes.set_title(f"{run.label}: {m} (probe {100 * probe:.1f} %)", loc="left", fontsize=10, parse_math=False)
    _legend(
        out, outputs[0]["classes"].tolist(), f"t-SNE of the test split, seed {chosen[0].seed}, {how_selected(chosen)}"
    )
    return out


def _of_one_seed(runs: Sequence[RunRecord]) -> list[RunRecord]:
    names = list(dict.fromkeys((run.recipe_name, run.name) for run in runs))
    for seed in sorted({run.seed for run in runs}):
        of_seed = [run for run in runs if run.seed == seed]
        if len(of_seed) == len(names):
            return of_seed
    raise DataError("figure of test representations: no seed is finished for every method; repeat the command")


def _outputs(run: RunRecord) -> dict[str, Array]:
    found = run.outputs()
    if found is None:
        raise DataError(f"{run.folder}: no test_outputs.npz, an older drcli trained it; train it again with --fresh")
    return found


def _map(axes: Axes, features: Array, labels: Array) -> None:
    """Scatter (N, D) features in two dimensions, colour and shape by class."""
    rows, points = embed_features(torch.from_numpy(features.astype(np.float32)))
    for number in np.unique(labels):
        colour, marker = look(int(number))
        chosen = points[labels[rows] == number]
        axes.scatter(chosen[:, 0], chosen[:, 1], s=14, marker=marker, color=colour, edgecolors="white", linewidths=0.3)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="#cccccc")
    axes.margins(0.04)


def _legend(figure: Figure, classes: Sequence[str], title: str) -> None:
    from matplotlib.lines import Line2D

    names = classes if len(classes) <= MOST_IN_LEGEND else []
    handles = [Line2D([], [], ls="", marker=look(n)[1], color=look(n)[0]) for n in range(len(names))]
    # Named afterwards: matplotlib leaves out names that begin with "_" and reads "$" as mathematics.
    legend = figure.legend(
        handles, ["-"] * len(names), title=title, loc="outside lower center", ncols=10, frameon=False, fontsize=9
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)
