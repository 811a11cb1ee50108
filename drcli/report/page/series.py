"""Curves over epochs: the mean over seeds, with a band of one standard deviation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from drcli.runs.comparison import spread

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_POINTS = 120
FEW_POINTS = 15  # each is shown by a dot


@dataclass(frozen=True)
class Curve:
    """A value over epochs.

    Attributes:
        epochs: E epochs, rising.
        mean: E means over the seeds that have the epoch.
        std: E sample standard deviations, 0 where one seed has the epoch.
    """

    epochs: Sequence[int]
    mean: Sequence[float]
    std: Sequence[float]


def curve(seeds: Iterable[Mapping[int, float]], *, keep: Iterable[int] = ()) -> Curve | None:
    """Return the curve of {epoch: value} of each seed, None if there is no value.

    At most 120 epochs are kept, spread evenly, the first and the last among them; and those named, if there.
    """
    values: dict[int, list[float]] = {}
    for seed in seeds:
        for epoch, value in seed.items():
            values.setdefault(epoch, []).append(value)
    epochs = sorted({*_thinned(sorted(values)), *values.keys() & set(keep)})
    if not epochs:
        return None
    return Curve(
        epochs,
        [fmean(values[epoch]) for epoch in epochs],
        [spread(values[epoch]) or 0.0 for epoch in epochs],
    )


def _thinned(epochs: Sequence[int]) -> list[int]:
    last = len(epochs) - 1
    if last < MOST_POINTS:
        return list(epochs)
    return [epochs[round(place * last / (MOST_POINTS - 1))] for place in range(MOST_POINTS)]


def draw_curve(axes: Axes, drawn: Curve, **look: Any) -> Artist:
    """Draw a curve with its band and return the line."""
    low = [mean - std for mean, std in zip(drawn.mean, drawn.std, strict=True)]
    high = [mean + std for mean, std in zip(drawn.mean, drawn.std, strict=True)]
    if any(drawn.std):
        axes.fill_between(drawn.epochs, low, high, color=look["color"], alpha=0.16, linewidth=0)
    marker = "o" if len(drawn.epochs) <= FEW_POINTS else None
    (line,) = axes.plot(drawn.epochs, drawn.mean, marker=marker, markersize=3.5, **look)
    return line
