"""Figure 5: accuracy of D&R over lambda and the frequency H of re-learning."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from drcli.errors import DataError
from drcli.report.figures.wording import count_seeds, name_recipe, per_cent
from drcli.report.style import GREY
from drcli.runs.collect import RunRecord, finished
from drcli.runs.comparison import paired_differences, spread
from drcli.runs.wording import how_selected

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

Cell = tuple[float, int]


@dataclass(frozen=True)
class Scores:
    """Test accuracies at one lambda and one H, fractions.

    Attributes:
        accuracies: by seed; only seeds that joint training has too.
        difference: their mean difference to joint training, paired by seed.
    """

    accuracies: Mapping[int, float]
    difference: float

    @property
    def text(self) -> str:
        """Mean and standard deviation in per cent."""
        return describe(self.accuracies)


def describe(accuracies: Mapping[int, float]) -> str:
    """Return the mean in per cent, with the standard deviation of more than one seed."""
    values = list(accuracies.values())
    return per_cent(fmean(values), spread(values))


def figure(runs: Sequence[RunRecord]) -> Figure:
    """Return a heat map of the mean test accuracy over seeds, coloured by the difference to joint training.

    Each cell holds the accuracy, and in brackets that difference in points, over the seeds that both have.

    Raises:
        DataError: there is no finished run of joint training, or none of D&R that shares a seed with it.
    """
    from matplotlib.figure import Figure

    joint, cells = sensitivity(runs)
    lambdas, everies = sorted({value for value, _ in cells}), sorted({every for _, every in cells})
    out = Figure(figsize=(max(8.0, 2.4 + 1.2 * len(lambdas)), 2.4 + 0.75 * len(everies)), layout="constrained")
    axes = out.subplots()
    _heat(out, axes, cells, lambdas, everies)
    axes.set_xticks(np.arange(len(lambdas)) + 0.5, [f"{value:g}" for value in lambdas])
    axes.set_yticks(np.arange(len(everies)) + 0.5, [str(every) for every in everies])
    axes.set_xlabel("lambda" + (" (0: nothing is pulled back, which is joint training)" if 0 in lambdas else ""))
    axes.set_ylabel("H (epochs between re-learnings)")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    out.suptitle(_title(runs, joint, cells), fontsize=10, color=GREY, parse_math=False)
    return out


def _heat(
    figure: Figure, axes: Axes, cells: Mapping[Cell, Scores], lambdas: Sequence[float], everies: Sequence[int]
) -> None:
    """Draw and write the cells, H from top to bottom, with a bar of colours whose middle is joint training."""
    from matplotlib.ticker import MaxNLocator

    grid = np.full((len(everies), len(lambdas)), np.nan)
    for (value, every), scores in cells.items():
        row, column = everies.index(every), lambdas.index(value)
        grid[row, column] = 100 * scores.difference
        text = f"{scores.text}\n({100 * scores.difference:+.1f})"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center")
    reach = max(1, math.ceil(round(float(np.nanmax(np.abs(grid))), 3)))
    mesh = axes.pcolormesh(grid, cmap=_colours(), vmin=-reach, vmax=reach, edgecolors="#999999", linewidth=0.8)
    axes.invert_yaxis()
    label = "difference to joint training (points)"
    figure.colorbar(mesh, ax=axes, label=label, ticks=MaxNLocator(6, steps=[1, 2, 5, 10]), format="%+g")


def _colours() -> Colormap:
    """The middle half of a diverging map, so that the text stays readable on all of it."""
    import matplotlib as mpl
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("half", mpl.colormaps["PuOr_r"](np.linspace(0.25, 0.75, 129)))


def _title(runs: Sequence[RunRecord], joint: Mapping[int, float], cells: Mapping[Cell, Scores]) -> str:
    recipe = name_recipe([run for run in runs if run.method == "joint"])
    counts = [len(scores.accuracies) for scores in cells.values()]
    mean = "mean ± standard deviation" if max(counts) > 1 else "mean"
    selected = how_selected(run.done for run in finished(runs))
    return (
        f"{recipe}: test accuracy of D&R in per cent, {mean} over {count_seeds(counts)}\n"
        f"in brackets: minus joint training ({describe(joint)}) in points, paired by seed\n{selected}"
    )


def by_point(runs: Iterable[RunRecord]) -> dict[Cell, dict[int, float]]:
    """Return the test accuracies of finished runs by (lambda, H) and seed; what two recipes have both counts once."""
    found: dict[Cell, dict[int, float]] = {}
    for run in runs:
        settings = run.recipe.settings
        found.setdefault((settings["lambda"], settings["every"]), {})[run.seed] = run.accuracy
    return found


def sensitivity(runs: Sequence[RunRecord]) -> tuple[dict[int, float], dict[Cell, Scores]]:
    """Return the accuracies of joint training by seed, and the scores of D&R by (lambda, H).

    Raises:
        DataError: as `figure`.
    """
    done = finished(runs)
    joint = {run.seed: run.accuracy for run in done if run.method == "joint"}
    cells = by_point(run for run in done if run.method == "diagnose_relearn" and run.seed in joint)
    if not cells:
        raise DataError(
            "figure of sensitivity: it needs finished runs of joint training and of D&R with the same seeds"
        )
    return joint, {cell: Scores(found, fmean(paired_differences(found, joint))) for cell, found in cells.items()}
