"""Accuracy over epochs, by method and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drcli.report.drawing import Curve, Key, curve, draw_curve
from drcli.report.theme import Theme
from drcli.report.wording import Methods
from drcli.runs.records import EpochRecord, accuracies

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Sequence[Sequence[EpochRecord]]
"""Lines of metrics.jsonl, by seed."""

SPLITS = ("val", "train", "test")


@dataclass(frozen=True)
class Accuracy:
    """Accuracies in per cent after each epoch, and after the last one.

    Attributes:
        curves: mean over seeds by split and method; methods without a value are left out.
        last: accuracies of the last epoch, fractions, one per seed that has them, by method and split.
    """

    curves: Mapping[str, Mapping[str, Curve]]
    last: Mapping[str, Mapping[str, Sequence[float]]]


def read_epochs(methods: Methods) -> dict[str, Records]:
    """Return the epochs of all runs by method."""
    return {name: [run.epochs() for run in runs] for name, runs in methods.items()}


def data(records: Mapping[str, Records]) -> Accuracy:
    """Return the accuracies of the finished runs of one recipe; see `read_epochs`."""
    last = {name: {split: _last(seeds, split) for split in SPLITS} for name, seeds in records.items()}
    return Accuracy({split: _curves(records, split) for split in SPLITS}, last)


def _curves(records: Mapping[str, Records], split: str) -> dict[str, Curve]:
    found = {name: curve(_per_cent(accuracies(seed, split)) for seed in seeds) for name, seeds in records.items()}
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def _per_cent(values: Mapping[int, float]) -> dict[int, float]:
    return {epoch: 100 * value for epoch, value in values.items()}


def _last(seeds: Records, split: str) -> list[float]:
    return [value for seed in seeds for value in accuracies(seed[-1:], split).values()]


def draw(axes: Axes, found: Mapping[str, Curve], theme: Theme) -> list[Key]:
    """Draw one split's curves, and return the lines of a legend.

    Args:
        axes: where to.
        found: curves by method.
        theme: look of the methods.
    """
    keys = [(draw_curve(axes, drawn, theme.look(name), "-", theme), name) for name, drawn in found.items()]
    axes.set(xlabel="epoch", ylabel="accuracy (%)")
    axes.margins(x=0.02)
    return keys
