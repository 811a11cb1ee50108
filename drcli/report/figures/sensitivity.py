"""Figure 5: accuracy of D&R over lambda and the frequency H of re-learning."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from drcli.errors import DataError
from drcli.report.collect import RunRecord
from drcli.report.comparison import how_selected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = tuple[float, int]


def figure(runs: Sequence[RunRecord]) -> Figure:
    """Return a heat map of the mean test accuracy over seeds; colours part at the accuracy of joint training.

    Each cell also says the mean difference to joint training, over the seeds that both have.

    Raises:
        DataError: there is no finished run of joint training, or none of D&R that shares a seed with it.
    """
    from matplotlib.figure import Figure

    joint, cells = sensitivity(runs)
    lambdas, everies = sorted({value for value, _ in cells}), sorted({every for _, every in cells})
    grid = np.full((len(everies), len(lambdas)), np.nan)
    out = Figure(figsize=(2.4 + 1.15 * len(lambdas), 1.9 + 0.75 * len(everies)), layout="constrained")
    axes = out.subplots()
    for (value, every), (accuracy, difference) in cells.items():
        row, column = everies.index(every), lambdas.index(value)
        grid[row, column] = 100 * accuracy
        axes.text(column, row, f"{100 * accuracy:.1f}\n({100 * difference:+.1f})", ha="center", va="center")
    reach = max(1.0, float(np.nanmax(np.abs(grid - 100 * joint))))
    # Half the range of the colours, so that the text stays readable on all of them.
    image = axes.imshow(grid, cmap="PuOr_r", vmin=100 * joint - 2 * reach, vmax=100 * joint + 2 * reach, aspect="auto")
    out.colorbar(
        image,
        label="test accuracy (%)",
        boundaries=np.linspace(100 * joint - reach, 100 * joint + reach, 65),
        format="%.1f",
    )
    axes.set_xticks(range(len(lambdas)), [f"{value:g}" for value in lambdas])
    axes.set_yticks(range(len(everies)), [str(every) for every in everies])
    axes.set(xlabel="lambda", ylabel="H (epochs between re-learnings)")
    title = f"joint training: {100 * joint:.1f} % (in brackets: difference to it)\n{how_selected(runs)}"
    axes.set_title(title, fontsize=10, loc="left")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return out


def sensitivity(runs: Sequence[RunRecord]) -> tuple[float, dict[Cell, tuple[float, float]]]:
    """Return the mean accuracy of joint training, and by (lambda, H) that of D&R and its paired difference.

    Raises:
        DataError: as `figure`.
    """
    finished = [(run, run.summary["test"]["accuracy"]) for run in runs if run.summary is not None]
    joint = {run.seed: accuracy for run, accuracy in finished if run.method == "joint"}
    cells: dict[Cell, dict[int, float]] = {}
    for run, accuracy in finished:
        if run.method == "diagnose_relearn" and run.seed in joint:
            block = run.recipe["methods"][run.label]
            cells.setdefault((block["lambda"], block["every"]), {})[run.seed] = accuracy
    if not cells:
        raise DataError(
            "figure of sensitivity: it needs finished runs of joint training and of D&R with the same seeds"
        )
    return fmean(joint.values()), {
        cell: (fmean(found.values()), fmean(accuracy - joint[seed] for seed, accuracy in found.items()))
        for cell, found in cells.items()
    }
