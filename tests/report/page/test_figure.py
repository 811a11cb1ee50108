"""Figures: the page's colours, ids of their own, names that are shown as they are."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from drcli.report.drawing import add_legend, draw_heat_map, heat_panel, panel
from drcli.report.page.figure import Drawing, inline, to_png, to_svg
from drcli.report.theme import COLOURS, FOREGROUND, LINE, MUTED, PAGE, look

ODD = ["_hidden", "$x_", "</text><script>", FOREGROUND]


@pytest.fixture
def drawing() -> Drawing:
    with PAGE.applied():
        figure, axes = panel()
        lines = [axes.plot([0, 1], [0, place], color=look(place).colour)[0] for place in range(len(ODD))]
        add_legend(figure, list(zip(lines, ODD, strict=True)), PAGE)
    return Drawing("one", figure, 'a "caption" <b>')


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg.replace("xlink:href", "href"))
    return [node.text or "" for node in root.iter() if node.tag.endswith("text")]


def test_the_same_figure_gives_the_same_file(drawing: Drawing) -> None:
    assert to_svg(drawing) == to_svg(drawing)
    assert to_png(drawing) == to_png(drawing)
    assert to_png(drawing).startswith(b"\x89PNG\r\n")


def test_names_in_a_legend_are_shown_as_they_are(drawing: Drawing) -> None:
    svg = to_svg(drawing)
    assert set(ODD) <= set(texts(svg))
    assert set(ODD) <= set(texts(inline(drawing, svg)))
    assert "<script>" not in inline(drawing, svg)


def test_on_the_page_every_colour_is_the_pages(drawing: Drawing) -> None:
    tags = "".join(re.findall(r"<[^>]*>", inline(drawing, to_svg(drawing))))
    assert not [colour for colour in (*COLOURS, FOREGROUND, MUTED, LINE) if colour in tags]
    assert {f"var(--{name})" for name in ("fg", "muted", "line", "c0", "c3")} <= set(re.findall(r"var\(--\w+\)", tags))


def test_ids_and_references_on_the_page_belong_to_the_drawing(drawing: Drawing) -> None:
    svg = inline(drawing, to_svg(drawing))
    ids = set(re.findall(r'\bid="([^"]*)"', svg))
    used = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg))
    assert all(name.startswith("one-") for name in ids)
    assert {one or other for one, other in used} <= ids
    assert used


def test_the_page_gets_neither_metadata_nor_styles_of_the_file(drawing: Drawing) -> None:
    svg = inline(drawing, to_svg(drawing))
    assert svg.startswith("<svg ")
    assert not re.search("<metadata|<style|<!--|font-family", svg)


def test_a_figure_is_named_by_its_caption(drawing: Drawing) -> None:
    tag = inline(drawing, to_svg(drawing)).partition(">")[0]
    assert 'role="img" aria-labelledby="one"' in tag
    assert "aria-label=" not in tag


def test_a_heat_map_is_a_picture_with_a_dot_per_cell() -> None:
    ticks = ["a", "b", "c"], ["r"]
    with PAGE.applied():
        figure, axes = heat_panel(ticks)
        values = np.array([[0.0, 1.0, np.nan]])
        draw_heat_map(axes, values, ticks, [["0", "1", ""]], labels=("x", "y"), limits=(0, 1))
    svg = to_svg(Drawing("heat", figure, ""))
    assert re.search(r'<image [^>]*width="3" height="1"', svg)
    assert {"a", "b", "c", "r", "0", "1", "x", "y"} <= set(texts(svg))
