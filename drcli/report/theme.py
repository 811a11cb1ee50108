"""How every figure looks: one palette, markers and line styles, in two themes, `paper` and `page`.

A theme counts the methods of a report, so that each keeps one colour and one marker in all figures. The colours are
those of the light page; on the page they become CSS variables, which the dark page sets otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from drcli.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Metadata by file type: a date would make two pictures of the same thing differ.
METADATA: Mapping[str, Mapping[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
# At least 3 : 1 against white, and any two of them as far apart as that allows, with each kind of colour blindness
# too; tests/report/test_theme.py says how far. style.css has their partners for the dark page.
COLOURS = (
    "#0a01f7",
    "#b47001",
    "#bb0c56",
    "#03a883",
    "#7500a6",
    "#165a0d",
    "#8273b4",
    "#540708",
    "#ee45fd",
    "#052169",
)
SHADES = ("#2a6ebb", "#c2510a")
"""Colours of heat maps: of what is more, and of what is less than zero."""
# Colour alone distinguishes nothing: neighbours differ in their marker too. With ten colours they make 70 pairs.
MARKERS = ("o", "s", "^", "D", "P", "X", "<")
FOREGROUND, MUTED, LINE, BACKGROUND = "#1b1f24", "#57606a", "#d8dee4", "#ffffff"
VARIABLES = {FOREGROUND: "fg", MUTED: "muted", LINE: "line", BACKGROUND: "bg"} | {
    colour: f"c{number}" for number, colour in enumerate(COLOURS)
}
"""Names of the CSS variables by colour."""

LineStyle = Literal["-", "--", "-.", ":"]
SPLITS: Mapping[str, LineStyle] = {"train": "-", "val": "--", "test": "-."}
"""Line styles by split where several are in one panel."""
RELEARNING: LineStyle = ":"
EVENT = "v"
"""Marker of a re-learning event: filled before it, hollow after it."""
BAND: Mapping[str, Any] = {"alpha": 0.16, "linewidth": 0}
"""Look of a band of one standard deviation on either side of a mean."""

_COMMON: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "text.parse_math": False,  # a name may hold a "$"
    "text.color": FOREGROUND,
    "axes.labelcolor": FOREGROUND,
    "axes.edgecolor": MUTED,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": FOREGROUND,
    "ytick.labelcolor": FOREGROUND,
}


class Look(NamedTuple):
    """Colour and marker of a method or a class."""

    colour: str
    marker: str


OTHER = Look(MUTED, ".")
"""Look of the methods that a figure has no colour of their own for: thin and grey, behind the others."""
FAINT = 0.4
"""Opacity of what is drawn for them."""


@dataclass(frozen=True)
class Theme:
    """Sizes and settings of the figures of one kind, and which methods they show.

    Attributes:
        name: "paper" or "page".
        rc: settings of matplotlib.
        legend_size: points of the text of a legend.
        marker_size: points of a marker on a curve.
        dot_size: points of a dot on a map.
        map_rows: rows of the test split on a map; of more, so many are drawn at random.
        grows: whether a legend makes the figure taller; matplotlib's constrained layout finds it room otherwise.
        methods: names of the methods of the report, in the order of their colours.
        coloured: those of them that have a colour of their own.
    """

    name: Literal["paper", "page"]
    rc: Mapping[Any, Any]
    legend_size: float
    marker_size: float
    dot_size: float
    map_rows: int
    grows: bool
    methods: tuple[str, ...] = ()
    coloured: tuple[str, ...] = ()

    def with_methods(self, names: Iterable[str], first: Iterable[str] | None = None) -> Theme:
        """Return the theme for a report of these methods, each of which gets its colour and marker here.

        Args:
            names: of the methods, in the order of their colours.
            first: where there are more methods than colours, those that come first get one each, and the others are
                grey; None for colours that are repeated.
        """
        methods = tuple(dict.fromkeys(names))
        chosen = set(methods)
        if first is not None and len(methods) > len(COLOURS):
            chosen = set(list(dict.fromkeys([*first, *methods]))[: len(COLOURS)])
        return replace(self, methods=methods, coloured=tuple(name for name in methods if name in chosen))

    def look(self, method: str) -> Look:
        """Return colour and marker of a method of the report."""
        return look(self.coloured.index(method)) if method in self.coloured else OTHER

    @contextmanager
    def applied(self, **more: Any) -> Iterator[None]:
        """Draw and write in this theme while this is open; `more` are further settings of matplotlib."""
        import matplotlib as mpl

        with mpl.rc_context(dict(self.rc, **more)):
            yield


PAPER = Theme(
    "paper",
    {
        **_COMMON,
        "font.size": 10,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.06,
        "svg.hashsalt": "drcli",  # otherwise the identifiers in an .svg are random
    },
    legend_size=9,
    marker_size=4.5,
    dot_size=4.2,
    map_rows=1000,
    grows=False,
)
PAGE = Theme(
    "page",
    {**_COMMON, "font.size": 9, "axes.facecolor": "none", "figure.facecolor": "none", "svg.fonttype": "none"},
    legend_size=8.5,
    marker_size=4,
    dot_size=3.6,
    map_rows=300,
    grows=True,
)


def look(number: int) -> Look:
    """Return colour and marker of a class, a method or whatever else is counted from 0; the first seventy differ."""
    return Look(COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])


def write_figure(path: Path, theme: Theme, draw: Callable[[Figure], None]) -> None:
    """Draw on an empty figure in a theme and write it; the suffix, one of METADATA, decides the type.

    Raises:
        RunError: the file cannot be written.
    """
    from matplotlib.figure import Figure  # never pyplot: it keeps every figure, and picks a screen

    suffix = path.suffix.lower()
    stream = io.BytesIO()
    with theme.applied():
        figure = Figure(layout="constrained")
        draw(figure)
        figure.savefig(stream, format=suffix[1:], dpi=150, metadata=dict(METADATA[suffix]))
    write_atomic(path, stream.getvalue())
