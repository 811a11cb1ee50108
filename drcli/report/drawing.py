"""What several figures are drawn with: curves over epochs, heat maps, legends, and panels of the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drcli.report.theme import BACKGROUND, BAND, FAINT, OTHER, SHADES, Look, Theme

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Array = NDArray[Any]
Key = tuple["Artist", str]
"""A line of a legend."""
GREY = "grey"
"""Label of what stands in a legend for a method without a colour of its own; such lines become one."""

MOST_POINTS = 120
FEW_POINTS = 15  # each is shown by its marker; of more, about so many are
LONGEST, LONGEST_KEY = 24, 36  # letters of a name, and of a line of a legend
# Inches. Margins of a panel are fixed: a layout engine would draw each figure twice.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 3.7, 2.2, 0.62, 0.14, 0.12, 0.5
LEGEND_ROW, HANDLE, LETTER = 0.18, 0.47, 0.068  # of a legend: a row, a handle with its margins, a letter
DARKEST = 0.6  # of a shade: what is written in it can still be read, on either page


def shortened(name: str, length: int = LONGEST) -> str:
    """Return a name on one line that fits into a figure."""
    name = " ".join(name.split())
    return name if len(name) <= length else f"{name[: length - 3].rstrip()}..."


# Curves over epochs


@dataclass(frozen=True)
class Curve:
    """A value over epochs, or over the strength of a condition.

    Attributes:
        epochs: E epochs or strengths, rising.
        mean: E means over the seeds that have the epoch.
        std: E sample standard deviations, 0 where one seed has the epoch.
    """

    epochs: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float]

    def at(self, epoch: int) -> float | None:
        """Return the mean at an epoch, None where there is none."""
        return self.mean[self.epochs.index(epoch)] if epoch in self.epochs else None


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
    kept = [np.array(values[epoch]) for epoch in epochs]
    deviations = [float(found.std(ddof=1)) if len(found) > 1 else 0.0 for found in kept]
    return Curve(epochs, [float(found.mean()) for found in kept], deviations)


def _thinned(epochs: Sequence[int]) -> list[int]:
    last = len(epochs) - 1
    if last < MOST_POINTS:
        return list(epochs)
    return [epochs[round(place * last / (MOST_POINTS - 1))] for place in range(MOST_POINTS)]


def draw_curve(axes: Axes, drawn: Curve, look: Look, linestyle: str, theme: Theme) -> Artist:
    """Draw a curve with its band of one standard deviation, and return what stands for it in a legend.

    One without a colour of its own is thin, and has neither band nor markers.
    """
    mean, std = np.array(drawn.mean), np.array(drawn.std)
    if look == OTHER:
        thin: dict[str, Any] = {"linewidth": 0.8, "alpha": FAINT, "zorder": 1.5}
        return axes.plot(drawn.epochs, mean, label=GREY, color=look.colour, linestyle=linestyle, **thin)[0]
    if std.any():
        axes.fill_between(drawn.epochs, mean - std, mean + std, color=look.colour, **BAND)
    every = max(1, -(-len(mean) // FEW_POINTS))
    (line,) = axes.plot(
        drawn.epochs,
        mean,
        color=look.colour,
        linestyle=linestyle,
        marker=look.marker,
        markersize=theme.marker_size,
        markevery=every,
        markeredgecolor=BACKGROUND,
        markeredgewidth=0.4,
    )
    return line


# Heat maps


def draw_heat_map(
    axes: Axes,
    values: Array,
    ticks: tuple[Sequence[str], Sequence[str]],
    written: Sequence[Sequence[str]] | None,
    *,
    labels: tuple[str, str],
    limits: tuple[float, float],
) -> Artist:
    """Draw a matrix (R, C) in shades of one colour, of two where the limits are below and above zero; NaN stays empty.

    The shades are transparent, and never so dark that what is written in them cannot be read, on either page.

    Args:
        axes: where to.
        values: (R, C).
        ticks: names of the C columns and of the R rows.
        written: a text for each cell, or None.
        labels: names of the axes.
        limits: values of both ends of the shades; the same but for their sign where they are of two colours.
    """
    # As a picture of one dot per cell: paths would take a hundred times the bytes.
    shades = _shades(two=limits[0] < 0 < limits[1])
    image = axes.imshow(values, cmap=shades, vmin=limits[0], vmax=limits[1], interpolation="none", aspect="auto")
    width = axes.bbox.width / axes.figure.dpi
    axes.set_xticks(range(values.shape[1]), ticks[0], rotation=0 if _side_by_side(ticks[0], width) else 90)
    axes.set_yticks(range(values.shape[0]), ticks[1])
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    if written is not None:
        _separate(axes, values.shape)
    for row, texts in enumerate(written or ()):
        for column, text in enumerate(texts):
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5)
    return image


def _separate(axes: Axes, shape: tuple[int, ...]) -> None:
    """Draw lines between the cells."""
    axes.set_xticks(np.arange(shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(shape[0] + 1) - 0.5, minor=True)
    axes.tick_params(which="minor", length=0)
    axes.grid(which="minor", color=BACKGROUND, linewidth=0.8)


def _side_by_side(names: Sequence[str], width: float) -> bool:
    """Whether names find room beside each other below columns of this width in inches together."""
    return len(names) * LETTER * (1 + max(map(len, names))) <= width


def _shades(*, two: bool) -> Any:
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    above, below = SHADES
    stops = [to_rgba(below, DARKEST), to_rgba(below, 0.0), to_rgba(above, 0.0), to_rgba(above, DARKEST)]
    ends = [to_rgba(above, 0.04), to_rgba(above, DARKEST)]
    # Both colours meet in the middle, where neither is seen.
    return LinearSegmentedColormap.from_list("shades", list(zip((0, 0.5, 0.5, 1), stops, strict=True)) if two else ends)


# Legends and panels


def sample(theme: Theme, look: Look) -> Artist:
    """Return what stands for a method or a class in a legend where it has no line."""
    from matplotlib.lines import Line2D

    size, other = theme.marker_size + 1.5, look == OTHER
    label, alpha = (GREY, FAINT) if other else ("", 1.0)
    return Line2D(
        [], [], color=look.colour, linestyle="", marker=look.marker, markersize=size, label=label, alpha=alpha
    )


def merged(keys: Sequence[Key]) -> list[Key]:
    """Return the lines of a legend, with one in place of those of all methods without a colour of their own."""
    grey = [key for key in keys if key[0].get_label() == GREY]
    if len(grey) < 2:
        return list(keys)
    kept = [key for key in keys if key not in grey]
    return [*kept, (grey[0][0], f"{len(grey)} other methods")]


def add_legend(figure: Figure | SubFigure, keys: Sequence[Key], theme: Theme, *, title: str | None = None) -> None:
    """Put a legend below everything.

    A figure of the page, which has one panel of fixed size, grows by the rows of its legend; for others the layout
    engine makes room.
    """
    keys = merged(keys)
    names = [shortened(name, LONGEST_KEY) for _, name in keys]
    columns = legend_columns(names, figure.bbox.width / figure.dpi)
    if theme.grows:
        _grow(figure, LEGEND_ROW * -(-len(names) // columns))
    legend = figure.legend(
        [handle for handle, _ in keys],
        ["-"] * len(names),
        title=title,
        loc="lower center" if theme.grows else "outside lower center",
        ncols=columns,
        fontsize=theme.legend_size,
        frameon=False,
        borderaxespad=0.1,
        columnspacing=1.2,
    )
    name_keys(legend, names)


def name_keys(legend: Any, names: Sequence[str]) -> None:
    """Name the lines of a legend: given to it at once, matplotlib leaves out names that begin with "_"."""
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set(text=name, parse_math=False)


def legend_columns(names: Sequence[str], width: float) -> int:
    """Return how many columns a legend has in a figure of this width in inches, filled evenly."""
    fit = max(1, int(width / (HANDLE + LETTER * max(map(len, names)))))
    rows = -(-len(names) // fit)
    return -(-len(names) // rows)


def legend_height(names: Sequence[str], width: float) -> float:
    """Return the inches that a legend with a title takes from a figure."""
    rows = -(-len(names) // legend_columns([shortened(name, LONGEST_KEY) for name in names], width))
    return 0.2 * (rows + 2)  # the text of the paper is a little larger


def panel(height: float = HEIGHT, *, left: float = LEFT, bottom: float = BOTTOM) -> tuple[Figure, Axes]:
    """Return a figure of the page with one panel, `height` inches tall without its margins.

    One panel each, so that a phone can stack them. To be called within the theme.
    """
    from matplotlib.figure import Figure  # never pyplot: it keeps every figure, and picks a screen

    figure = Figure(figsize=(WIDTH, TOP + height + bottom))
    axes = figure.add_axes((0, 0, 1, 1))
    _place(figure, axes, height, left, bottom)
    return figure, axes


def heat_panel(ticks: tuple[Sequence[str], Sequence[str]]) -> tuple[Figure, Axes]:
    """Return a panel for a heat map with these names of columns and rows; see `panel`."""
    below, beside = (0.45 + 0.075 * max(map(len, names)) for names in ticks)
    width = WIDTH - beside - RIGHT
    flat = _side_by_side(ticks[0], width)
    return panel(min(0.5 * len(ticks[1]), width), left=beside, bottom=BOTTOM if flat else max(below, BOTTOM))


def _grow(figure: Any, by: float) -> None:
    """Make a figure of one panel taller at its foot."""
    (axes,) = figure.axes
    box, total = axes.get_position(), figure.get_figheight()
    figure.set_figheight(total + by)
    _place(figure, axes, box.height * total, box.x0 * WIDTH, box.y0 * total + by)


def _place(figure: Figure, axes: Axes, height: float, left: float, bottom: float) -> None:
    total = figure.get_figheight()
    axes.set_position((left / WIDTH, bottom / total, (WIDTH - left - RIGHT) / WIDTH, height / total))
