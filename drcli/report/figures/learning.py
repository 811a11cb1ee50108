"""Figure 4: accuracy, purities and their gap over epochs, joint training and D&R."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drcli.errors import DataError
from drcli.report.collect import RunRecord, by_name
from drcli.report.style import GREY, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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

    The first column holds accuracies, the others one modality each: purities of train (solid) and
    validation (dashed), and below them the gap. Vertical lines are re-learning events.

    Raises:
        DataError: no run recorded purities (`diagnosis.monitor_every`).
    """
    from matplotlib.figure import Figure

    groups = by_name(run for run in runs if run.summary is not None and run.modality is None)
    modalities = [m for m in _modalities(runs) if any(purity_curve(group, m, "gap") for group in groups.values())]
    if not modalities:
        raise DataError("figure of learning: no finished run recorded purities; train with diagnosis.monitor_every=2")
    out = Figure(figsize=(4.2 * (1 + len(modalities)), 6.4), layout="constrained")
    grid = out.subplots(2, 1 + len(modalities), sharex=True)
    _accuracies(grid[:, 0], groups)
    for axes, m in zip(grid[:, 1:].T, modalities, strict=True):
        _purities(axes, groups, m)
    for axes in grid.flat:
        _events(axes, groups)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
    _legend(out, groups)
    return out


def _modalities(runs: Sequence[RunRecord]) -> list[str]:
    return list(dict.fromkeys(m for run in runs for m in run.recipe["modalities"]))


def accuracy_curve(runs: Sequence[RunRecord], split: str) -> Curve | None:
    """Return the accuracy on train, val or test after each epoch; None where a run did not record it."""
    return _curve([{line["epoch"]: line[split]["accuracy"] for line in run.epochs() if split in line} for run in runs])


def purity_curve(runs: Sequence[RunRecord], modality: str, key: str) -> Curve | None:
    """Return `purity_train`, `purity_val` or `gap` at each diagnosis; None where a run has none."""
    return _curve([{event["epoch"]: event["modalities"][modality][key] for event in run.events()} for run in runs])


def _curve(seeds: Sequence[Mapping[int, float]]) -> Curve | None:
    """Join the values by epoch of each seed, over the epochs that all have."""
    shared = sorted(set.intersection(*(set(values) for values in seeds))) if seeds else []
    return Curve(np.array(shared), np.array([[values[e] for e in shared] for values in seeds])) if shared else None


def _draw(axes: Axes, curve: Curve | None, number: int, **line: Any) -> None:
    if curve is None:
        return
    colour = look(number)[0]
    axes.plot(curve.epochs, curve.values.mean(axis=0), color=colour, linewidth=1.6, **line)
    if len(curve.values) > 1:
        low, high = curve.values.min(axis=0), curve.values.max(axis=0)
        axes.fill_between(curve.epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def _accuracies(axes: Sequence[Axes], groups: Mapping[str, Sequence[RunRecord]]) -> None:
    """Draw validation above; below, test where every run recorded it, else train."""
    tested = all(accuracy_curve(group, "test") for group in groups.values())
    below = "test" if tested else "train"
    for number, group in enumerate(groups.values()):
        _draw(axes[0], accuracy_curve(group, "val"), number)
        _draw(axes[1], accuracy_curve(group, below), number)
    axes[0].set_title("validation accuracy", loc="left")
    axes[1].set_title(_test_title(groups) if tested else "training accuracy", loc="left")


def _test_title(groups: Mapping[str, Sequence[RunRecord]]) -> str:
    selections = {run.recipe["selection"] for group in groups.values() for run in group}
    return "test accuracy (epochs selected on it)" if "test" in selections else "test accuracy (selects nothing)"


def _purities(axes: Sequence[Axes], groups: Mapping[str, Sequence[RunRecord]], modality: str) -> None:
    for number, group in enumerate(groups.values()):
        _draw(axes[0], purity_curve(group, modality, "purity_train"), number)
        _draw(axes[0], purity_curve(group, modality, "purity_val"), number, linestyle="--")
        _draw(axes[1], purity_curve(group, modality, "gap"), number)
    axes[0].set_title(f"{modality}: purity", loc="left", parse_math=False)
    axes[1].set_title(f"{modality}: purity gap", loc="left", parse_math=False)
    axes[1].set_ylim(bottom=0)


def _events(axes: Axes, groups: Mapping[str, Sequence[RunRecord]]) -> None:
    for number, group in enumerate(groups.values()):
        for epoch in sorted({line["epoch"] for run in group for line in run.events() if line["kind"] == "relearn"}):
            axes.axvline(epoch, color=look(number)[0], linestyle=":", linewidth=1)


def _legend(figure: Figure, groups: Mapping[str, Sequence[RunRecord]]) -> None:
    from matplotlib.lines import Line2D

    make: Callable[..., Line2D] = Line2D
    names = [f"{name} (seeds: {len(group)})" for name, group in groups.items()]
    handles = [make([], [], color=look(number)[0]) for number in range(len(names))]
    styles = [("-", "train"), ("--", "validation"), (":", "re-learning")]
    handles += [make([], [], color=GREY, linestyle=style) for style, _ in styles]
    names += [name for _, name in styles]
    legend = figure.legend(handles, ["-"] * len(names), loc="outside lower center", ncols=len(names), frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)
