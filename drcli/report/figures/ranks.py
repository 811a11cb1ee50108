"""Average ranks over datasets, with bars over the methods that they do not tell apart (Demsar, JMLR 2006, figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drcli.report.drawing import shortened
from drcli.report.theme import FOREGROUND, MUTED, Theme
from drcli.runs.comparison import Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 1.0
BAR = 0.42  # rows between two bars


def height(found: Ranking) -> float:
    """Return the rows of the picture: one per method, those of the bars, and one for the critical difference."""
    return len(found.means) * ROW + len(found.alike) * BAR + ROW


def draw(axes: Axes, found: Ranking, theme: Theme) -> None:
    """Draw a row for each method with its mean rank, best first, and above them a bar for each group that is alike.

    The best rank, 1, is on the left.
    """
    names, groups = list(found.means), found.alike
    top = -len(groups) * BAR - ROW
    if found.critical is not None:
        _bar(axes, 1, 1 + found.critical, top, MUTED)
        axes.annotate(
            "critical difference", (1, top), xytext=(0, 4), textcoords="offset points", fontsize=9, color=MUTED
        )
    for place, group in enumerate(groups):
        ends = found.means[group[0]], found.means[group[-1]]
        _bar(axes, *ends, -BAR * (place + 1), FOREGROUND)
    for place, (name, rank) in enumerate(found.means.items()):
        look = theme.look(name)
        axes.hlines(place * ROW, 1, rank, colors=look.colour, linewidth=1)
        axes.plot(rank, place * ROW, look.marker, color=look.colour, markersize=theme.marker_size + 2)
    axes.set_yticks([place * ROW for place in range(len(names))], [shortened(name) for name in names])
    furthest = max(len(names), 1 + (found.critical or 0))
    axes.set(ylim=(len(names) * ROW - 0.4, top - 0.8), xlim=(0.9, furthest + 0.1), xlabel="average rank, 1 is the best")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _bar(axes: Axes, low: float, high: float, row: float, colour: str) -> None:
    axes.plot([low - 0.04, high + 0.04], [row, row], color=colour, linewidth=3, solid_capstyle="butt")
