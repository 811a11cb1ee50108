"""Figures by matplotlib that take the colours of the page: one panel each, so that a phone can stack them.

A figure is drawn in the colours of the light page, which are also those of its own files; on the page each of
these colours becomes a CSS variable, which the dark page sets otherwise.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from drcli.report.page.markup import Html

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOREGROUND, MUTED, LINE = "#1b1f24", "#57606a", "#d8dee4"
# At least 3 : 1 against white; their partners for the dark page stand in style.css.
SERIES = (
    "#2a6ebb",
    "#c2510a",
    "#2c7a4b",
    "#a82c7f",
    "#746a00",
    "#0b7f8e",
    "#b3261d",
    "#6b4cc2",
    "#7b5341",
    "#5c6672",
)
# Colour never stands alone: neighbours differ in these too. With ten colours they make 20 and 70 pairs.
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.3)), (0, (4.5, 1.3, 1, 1.3)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
VARIABLES = {FOREGROUND: "fg", MUTED: "muted", LINE: "line"} | {c: f"c{place}" for place, c in enumerate(SERIES)}
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.parse_math": False,  # a label may hold a "$"
    "text.color": FOREGROUND,
    "axes.labelcolor": FOREGROUND,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": FOREGROUND,
    "ytick.labelcolor": FOREGROUND,
    "svg.fonttype": "none",
}
# Inches. Margins are fixed: a layout engine would draw each figure twice.
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 3.7, 2.2, 0.62, 0.14, 0.12, 0.5
LEGEND_ROW, ROW = 0.18, 0.5


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        name: stem of its files, and what its ids begin with; unique on the page.
        figure: matplotlib's.
        caption: what it shows.
    """

    name: str
    figure: Figure
    caption: str


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of the page while this is open."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def panel(height: float = HEIGHT, *, left: float = LEFT, bottom: float = BOTTOM) -> tuple[Figure, Axes]:
    """Return a figure of one panel, `height` inches tall without its margins; to be called within `style`."""
    from matplotlib.figure import Figure  # never pyplot: it keeps every figure, and picks a screen

    figure = Figure(figsize=(WIDTH, TOP + height + bottom))
    axes = figure.add_axes((0, 0, 1, 1))
    _place(figure, axes, height, left, bottom)
    return figure, axes


def _place(figure: Figure, axes: Axes, height: float, left: float, bottom: float) -> None:
    total = figure.get_figheight()
    axes.set_position((left / WIDTH, bottom / total, (WIDTH - left - RIGHT) / WIDTH, height / total))


def add_legend(figure: Figure, axes: Axes, handles: Sequence[Artist], names: Sequence[str]) -> None:
    """Put a legend below the panel; the figure grows by its rows."""
    names = [shortened(name) for name in names]
    rows = -(-len(names) // max(1, int(WIDTH / (0.47 + 0.068 * max(map(len, names))))))
    columns = -(-len(names) // rows)
    box = axes.get_position()
    height, below = box.height * figure.get_figheight(), box.y0 * figure.get_figheight()
    figure.set_figheight(figure.get_figheight() + rows * LEGEND_ROW)
    _place(figure, axes, height, box.x0 * WIDTH, below + rows * LEGEND_ROW)
    # Named afterwards: matplotlib leaves out names that begin with "_".
    look = {"frameon": False, "borderaxespad": 0.1, "columnspacing": 1.2, "fontsize": 8.5}
    legend = figure.legend(handles, ["-"] * len(names), loc="lower center", ncols=columns, **look)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(name)


def heat_map(
    values: NDArray[Any],
    ticks: tuple[Sequence[str], Sequence[str]],
    written: Sequence[Sequence[str]] | None,
    *,
    labels: tuple[str, str],
    limits: tuple[float, float],
) -> Figure:
    """Return a figure of a matrix (R, C) in shades of one colour; NaN stays empty.

    The shades are transparent, and never so dark that what is written in them cannot be read, on either page.

    Args:
        values: (R, C).
        ticks: names of the C columns and of the R rows.
        written: a text for each cell, or None.
        labels: names of the axes.
        limits: values of the lightest and of the darkest shade.
    """
    from matplotlib.colors import LinearSegmentedColormap, to_rgba

    rows, columns = values.shape
    shades = LinearSegmentedColormap.from_list("shades", [to_rgba(SERIES[0], 0.04), to_rgba(SERIES[0], 0.6)])
    left, bottom = (0.45 + 0.075 * max(map(len, names)) for names in reversed(ticks))
    with style():
        figure, axes = panel(min(ROW * rows, WIDTH - left - RIGHT), left=left, bottom=bottom)
        # As a picture of one dot a cell: paths would take a hundred times the bytes.
        axes.imshow(values, cmap=shades, vmin=limits[0], vmax=limits[1], interpolation="none", aspect="auto")
        axes.set_xticks(range(columns), ticks[0], rotation=90 if bottom > 0.9 else 0)
        axes.set_yticks(range(rows), ticks[1])
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.tick_params(length=0)
        axes.grid(visible=False)
        for row, texts in enumerate(written or ()):
            for column, text in enumerate(texts):
                axes.text(column, row, text, ha="center", va="center", fontsize=8.5)
    return figure


def shortened(name: str, length: int = 24) -> str:
    """Return a name that fits into a figure."""
    return name if len(name) <= length else f"{name[: length - 3]}..."


def line_look(place: int) -> dict[str, Any]:
    """Return colour and dashes of a series; 20 of them differ."""
    return {"color": SERIES[place % len(SERIES)], "linestyle": DASHES[place % len(DASHES)]}


def point_look(number: int) -> dict[str, Any]:
    """Return colour and shape of a class; 70 of them differ."""
    return {"color": SERIES[number % len(SERIES)], "marker": MARKERS[number % len(MARKERS)]}


def to_svg(drawing: Drawing) -> str:
    """Return the figure as a file: the same figure gives the same text."""
    import matplotlib as mpl

    stream = io.BytesIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": drawing.name}):
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().decode("utf-8")


def to_png(drawing: Drawing) -> bytes:
    """Return the figure as a picture of 300 dots an inch, on white."""
    stream = io.BytesIO()
    with style():
        drawing.figure.savefig(stream, format="png", dpi=300, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def inline(drawing: Drawing, svg: str) -> Html:
    """Return the text of an .svg file as an element of the page, in the colours of the page.

    Its ids begin with the drawing's name, and what only a file needs is left out. It is named by the element whose
    id is the drawing's name: its caption.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<[^>]+>", lambda tag: _on_page(tag[0], drawing.name), body)
    body = re.sub(r"\s*\n\s*", "\n", body)
    label = f'<svg class="figure" role="img" aria-labelledby="{drawing.name}"'
    return Html(body.replace("<svg", label, 1))


def _on_page(tag: str, name: str) -> str:
    """Make a tag's ids and references the drawing's own, and its colours those of the page."""
    tag = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", tag)
    tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: _variable(found[0], VARIABLES), tag)


def _variable(colour: str, variables: Mapping[str, str]) -> str:
    return f"var(--{variables[colour]})" if colour in variables else colour
