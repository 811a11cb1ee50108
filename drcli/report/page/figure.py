"""Figures of the page: as files, and as elements of the page that take its colours."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from drcli.report.page.markup import Html
from drcli.report.theme import PAGE, VARIABLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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


def to_svg(drawing: Drawing) -> str:
    """Return the figure as a file: the same figure gives the same text."""
    stream = io.BytesIO()
    with PAGE.applied(**{"svg.hashsalt": drawing.name}):
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().decode("utf-8")


def to_png(drawing: Drawing) -> bytes:
    """Return the figure as a picture of 300 dots per inch, on white."""
    stream = io.BytesIO()
    with PAGE.applied():
        drawing.figure.savefig(stream, format="png", dpi=300, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def inline(drawing: Drawing, svg: str) -> Html:
    """Return the text of an .svg file as an element of the page, in the colours of the page.

    Its ids begin with the drawing's name, and what only a file needs is left out. It is named by its caption,
    the element with the drawing's name as its id.
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
    return re.sub(r"#[0-9a-f]{6}\b", _variable, tag)


def _variable(colour: re.Match[str]) -> str:
    return f"var(--{VARIABLES[colour[0]]})" if colour[0] in VARIABLES else colour[0]
