"""The expected best of n trials against n, one line per method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from drcli.report.drawing import Curve, add_legend, draw_curve
from drcli.report.theme import PAPER, Theme, write_figure
from drcli.tuning.result import Tuned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")


def write(folder: Path, found: Sequence[Tuned]) -> list[Path]:
    """Write the picture into a folder and return its files; none where no trial was drawn.

    Raises:
        RunError: a file cannot be written.
    """
    shown = [one for one in found if len(one.trials) > 1]
    theme = PAPER.with_methods(one.label for one in shown)
    paths = [folder / f"expected_best{suffix}" for suffix in SUFFIXES] if shown else []
    for path in paths:
        write_figure(path, theme, partial(draw, found=shown, theme=theme))
    return paths


def draw(figure: Figure, found: Sequence[Tuned], theme: Theme) -> None:
    """Draw the curve of each method, in per cent."""
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(7.5, 4.2 + 0.08 * len(found))
    axes = figure.subplots()
    keys = []
    for one in found:
        mean = [100 * value for value in one.curve]
        curve = Curve(range(1, len(mean) + 1), mean, [0.0] * len(mean))
        keys.append((draw_curve(axes, curve, theme.look(one.label), "-", theme), one.label))
    axes.set(xlabel="trials n", ylabel="expected best of n (validation, %)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, keys, theme)
