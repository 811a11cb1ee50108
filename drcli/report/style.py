"""How every picture looks, and how it is written: the same figure gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drcli.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Metadata by file type: a date would make two pictures of the same thing differ.
METADATA: Mapping[str, Mapping[str, Any]] = {
    ".png": {},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
# Any two of them, the darkest and the palest too, lie further apart than those of the usual palettes, with each
# kind of colour blindness as well; tests/report/test_style.py says how far.
COLOURS = (
    "#218fff",
    "#f5a404",
    "#eb00aa",
    "#5e8f00",
    "#0000f1",
    "#24d9ab",
    "#c7aeff",
    "#204200",
    "#6c017a",
    "#875959",
)
MARKERS = ("o", "s", "^", "D")
GREY = "#444444"
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.06,
    "axes.edgecolor": "#555555",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "drcli",  # otherwise the identifiers in an .svg are random
}


def look(number: int) -> tuple[str, str]:
    """Return colour and shape of a class, a method or whatever else is counted from 0; the first forty differ.

    Neighbours differ in both: small hollow points are told apart by their shapes as much as by their colours.
    """
    return COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]


def write_figure(path: Path, make: Callable[[], Figure]) -> None:
    """Make a figure in drcli's style and write it; the suffix, one of METADATA, decides the type.

    Raises:
        RunError: the file cannot be written.
    """
    import matplotlib as mpl

    suffix = path.suffix.lower()
    stream = io.BytesIO()
    with mpl.rc_context(STYLE):
        make().savefig(stream, format=suffix[1:], dpi=150, metadata=dict(METADATA[suffix]))
    write_atomic(path, stream.getvalue())
