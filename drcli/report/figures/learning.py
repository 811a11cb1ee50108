"""Figure 4: accuracy, purities and their gap over epochs, joint training and D&R."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from drcli.errors import DataError
from drcli.report.figures.wording import count_seeds, name_recipe
from drcli.report.style import GREY, look
from drcli.runs.collect import RunRecord, by_name, finished
from drcli.runs.records import accuracies, measure

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = Literal["-", "--", "-.", ":"]
TRAIN: Style = "-"
VALIDATION: Style = "--"
TEST: Style = "-."
RELEARNING: Style = ":"
BAND: Mapping[str, Any] = {"alpha": 0.15, "linewidth": 0}


@dataclass(frozen=True)
class Curve:
    """Values over epochs, a line a seed.

    Attributes:
        epochs: (E,), those that every seed has.
        values: (S, E).
    """

    epochs: NDArray[np.int64]
    values: NDArray[np.float64]


def figure(runs: Sequence[RunRecord]) -> Figure:
    """Return curves of the finished runs of one recipe: means over seeds, with the range of the seeds.

    The first column holds accuracies, the others one modality each: purities, and below them the gap.
    Solid lines are of train, dashed of validation, dash-dotted of test; vertical ones are re-learning events.

    Raises:
        DataError: no run recorded purities (`diagnosis.monitor_every`).
    """
    from matplotlib.figure import Figure

    multimodal = [run for run in finished(runs) if run.modality is None]
    groups = by_name(multimodal)
    modalities = [m for m in _modalities(runs) if any(purity_curve(group, m, "gap") for group in groups.values())]
    if not modalities:
        raise DataError("figure of learning: no finished run recorded purities; train with diagnosis.monitor_every=2")
    out = Figure(figsize=(3.5 * (1 + len(modalities)), 6.4), layout="constrained")
    title = f"{name_recipe(multimodal)}, mean over {count_seeds([len(group) for group in groups.values()])}"
    out.suptitle(title, fontsize=11, color=GREY, parse_math=False)
    first, *others = _panels(out, 1 + len(modalities))
    tested = all(accuracy_curve(group, "test") for group in groups.values())
    _accuracies(first, groups, tested)
    for panels, m in zip(others, modalities, strict=True):
        _purities(panels, groups, m)
    if min(gap.dataLim.y0 for _, gap in others) >= 0:  # a signed gap may be below
        others[0][1].set_ylim(bottom=0)
    _legend(out, groups, tested)
    return out


def _panels(figure: Figure, count: int) -> list[tuple[Axes, Axes]]:
    """Return columns of two panels: accuracies share their vertical axis, and so does each row of the modalities."""
    grid = figure.subplots(2, count, sharex=True)
    grid[1, 0].sharey(grid[0, 0])
    for row in grid:
        for axes in row[2:]:
            axes.sharey(row[1])
    for axes in grid.flat:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("epoch")
    return list(zip(*grid, strict=True))


def _modalities(runs: Sequence[RunRecord]) -> list[str]:
    return list(dict.fromkeys(m for run in runs for m in run.recipe.modalities))


def accuracy_curve(runs: Sequence[RunRecord], split: str) -> Curve | None:
    """Return the accuracy on train, val or test after each epoch, in per cent; None where a run recorded none."""
    return _curve([{epoch: 100 * value for epoch, value in accuracies(run.epochs(), split).items()} for run in runs])


def purity_curve(runs: Sequence[RunRecord], modality: str, key: str) -> Curve | None:
    """Return `purity_train`, `purity_val` or `gap` at each diagnosis; None where a run has none."""
    return _curve([measure(run.events(), modality, key) for run in runs])


def _curve(seeds: Sequence[Mapping[int, float]]) -> Curve | None:
    """Join the values by epoch of each seed, over the epochs that all have."""
    shared = sorted(set.intersection(*(set(values) for values in seeds))) if seeds else []
    return Curve(np.array(shared), np.array([[values[e] for e in shared] for values in seeds])) if shared else None


def _draw(
    axes: Axes,
    groups: Mapping[str, Sequence[RunRecord]],
    curve_of: Callable[[Sequence[RunRecord]], Curve | None],
    linestyle: Style,
) -> None:
    """Draw one curve a method, with its band over seeds."""
    for number, group in enumerate(groups.values()):
        curve = curve_of(group)
        if curve is None:
            continue
        colour = look(number)[0]
        axes.plot(curve.epochs, curve.values.mean(axis=0), color=colour, linewidth=1.6, linestyle=linestyle)
        if len(curve.values) > 1:
            low, high = curve.values.min(axis=0), curve.values.max(axis=0)
            axes.fill_between(curve.epochs, low, high, color=colour, **BAND)


def _accuracies(axes: Sequence[Axes], groups: Mapping[str, Sequence[RunRecord]], tested: bool) -> None:
    """Draw validation above; below, test where every run recorded it, else train."""
    _draw(axes[0], groups, lambda group: accuracy_curve(group, "val"), VALIDATION)
    below = "test" if tested else "train"
    _draw(axes[1], groups, lambda group: accuracy_curve(group, below), TEST if tested else TRAIN)
    _finish(axes[0], groups, "validation accuracy", "accuracy (%)")
    _finish(axes[1], groups, _test_title(groups) if tested else "training accuracy", "accuracy (%)")


def _test_title(groups: Mapping[str, Sequence[RunRecord]]) -> str:
    selections = {run.recipe.selection for group in groups.values() for run in group}
    return "test accuracy (epochs selected on it)" if "test" in selections else "test accuracy (selects nothing)"


def _purities(axes: Sequence[Axes], groups: Mapping[str, Sequence[RunRecord]], modality: str) -> None:
    _draw(axes[0], groups, lambda group: purity_curve(group, modality, "purity_train"), TRAIN)
    _draw(axes[0], groups, lambda group: purity_curve(group, modality, "purity_val"), VALIDATION)
    _draw(axes[1], groups, lambda group: purity_curve(group, modality, "gap"), TRAIN)
    _finish(axes[0], groups, f"{modality}: purity", "purity")
    _finish(axes[1], groups, f"{modality}: purity gap", "purity gap")


def _finish(axes: Axes, groups: Mapping[str, Sequence[RunRecord]], title: str, quantity: str) -> None:
    """Name a panel and its quantity, and mark re-learning events in it."""
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.set_ylabel(quantity)
    for number, group in enumerate(groups.values()):
        for epoch in _relearnings(group):
            axes.axvline(epoch, color=look(number)[0], linestyle=RELEARNING, linewidth=1)


def _relearnings(runs: Sequence[RunRecord]) -> list[int]:
    return sorted({event.epoch for run in runs for event in run.events() if event.kind == "relearn"})


def _legend(figure: Figure, groups: Mapping[str, Sequence[RunRecord]], tested: bool) -> None:
    """Say below the panels what colours, line styles and bands mean."""
    keys = [*_method_keys(groups), *_line_keys(tested)]
    if any(len(group) > 1 for group in groups.values()):
        keys.append((_band(), "band: least to greatest over seeds"))
    legend = figure.legend(
        [handle for handle, _ in keys],
        ["-"] * len(keys),
        loc="outside lower center",
        ncols=-(-len(keys) // 2),
        frameon=False,
    )
    # Named afterwards: matplotlib leaves out names that begin with "_" and reads "$" as mathematics.
    for text, (_, name) in zip(legend.get_texts(), keys, strict=True):
        text.set(text=name, parse_math=False)


def _method_keys(groups: Mapping[str, Sequence[RunRecord]]) -> list[tuple[Artist, str]]:
    """What is in the colour of a method: its curves, and its re-learning events."""
    keys: list[tuple[Artist, str]] = []
    for number, (name, group) in enumerate(groups.items()):
        keys.append((_line(look(number)[0], TRAIN), name))
        if _relearnings(group):
            keys.append((_line(look(number)[0], RELEARNING), f"{name}: re-learning"))
    return keys


def _line_keys(tested: bool) -> list[tuple[Artist, str]]:
    styles = [("train, and the gap", TRAIN), ("validation", VALIDATION), *([("test", TEST)] if tested else [])]
    return [(_line(GREY, style), name) for name, style in styles]


def _line(colour: str, style: Style) -> Artist:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, linestyle=style)


def _band() -> Artist:
    from matplotlib.patches import Patch

    return Patch(color=GREY, **BAND)
