"""Accuracy over epochs, or the MAE of a regression, by method and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drcli.report.drawing import Curve, Key, curve, draw_curve
from drcli.report.theme import Theme
from drcli.report.wording import Methods
from drcli.runs.records import EpochRecord, first_scores
from drcli.task import CLASSIFICATION, Kind

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Records = Sequence[Sequence[EpochRecord]]
"""Lines of metrics.jsonl, by seed."""

SPLITS = ("val", "train", "test")


@dataclass(frozen=True)
class Accuracy:
    """Accuracies in per cent after each epoch, and after the last one; or MAEs.

    Attributes:
        curves: mean over seeds by split and method; methods without a value are left out.
        last: accuracies of the last epoch, fractions, one per seed that has them, by method and split; or MAEs.
        kind: which of them.
    """

    curves: Mapping[str, Mapping[str, Curve]]
    last: Mapping[str, Mapping[str, Sequence[float]]]
    kind: Kind = CLASSIFICATION.first


def read_epochs(methods: Methods) -> dict[str, Records]:
    """Return the epochs of all runs by method."""
    return {name: [run.epochs() for run in runs] for name, runs in methods.items()}


def data(records: Mapping[str, Records]) -> Accuracy:
    """Return the accuracies of the finished runs of one recipe; see `read_epochs`."""
    last = {name: {split: _last(seeds, split) for split in SPLITS} for name, seeds in records.items()}
    kinds = (record.val.task.first for seeds in records.values() for seed in seeds for record in seed)
    kind = next(kinds, CLASSIFICATION.first)
    return Accuracy({split: _curves(records, split, kind.scale) for split in SPLITS}, last, kind)


def _curves(records: Mapping[str, Records], split: str, scale: float) -> dict[str, Curve]:
    found = {
        name: curve(_scaled(first_scores(seed, split), scale) for seed in seeds) for name, seeds in records.items()
    }
    return {name: drawn for name, drawn in found.items() if drawn is not None}


def _scaled(values: Mapping[int, float], scale: float) -> dict[int, float]:
    return {epoch: scale * value for epoch, value in values.items()}


def _last(seeds: Records, split: str) -> list[float]:
    return [value for seed in seeds for value in first_scores(seed[-1:], split).values()]


def draw(axes: Axes, found: Mapping[str, Curve], theme: Theme, kind: Kind = CLASSIFICATION.first) -> list[Key]:
    """Draw one split's curves, and return the lines of a legend.

    Args:
        axes: where to.
        found: curves by method.
        theme: look of the methods.
        kind: what they are of.
    """
    keys = [(draw_curve(axes, drawn, theme.look(name), "-", theme), name) for name, drawn in found.items()]
    axes.set(xlabel="epoch", ylabel=kind.axis)
    axes.margins(x=0.02)
    return keys
