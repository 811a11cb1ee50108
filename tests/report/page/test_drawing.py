"""Figures: the page's colours, ids of their own, names that are shown as they are."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from drcli.report.page.drawing import (
    FOREGROUND,
    LINE,
    MUTED,
    SERIES,
    Drawing,
    add_legend,
    heat_map,
    inline,
    line_look,
    panel,
    point_look,
    style,
    to_png,
    to_svg,
)

ODD = ["_hidden", "$x_", "</text><script>", FOREGROUND]


@pytest.fixture
def drawing() -> Drawing:
    with style():
        figure, axes = panel()
        lines = [axes.plot([0, 1], [0, place], **line_look(place))[0] for place in range(len(ODD))]
        add_legend(figure, axes, lines, ODD)
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
    assert not [colour for colour in (*SERIES, FOREGROUND, MUTED, LINE) if colour in tags]
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


@pytest.mark.parametrize(("look", "second", "different"), [(line_look, "linestyle", 20), (point_look, "marker", 70)])
def test_neighbours_differ_in_more_than_colour(
    look: Callable[[int], dict[str, object]], second: str, different: int
) -> None:
    looks = [look(number) for number in range(different)]
    assert all(one[second] != other[second] for one, other in pairwise(looks))
    assert len({str(one) for one in looks}) == different


@pytest.mark.parametrize("names", [list("0123456789"), ["training", "validation", "re-learning"], ["M" * 24, "i"]])
def test_a_legend_stays_within_its_figure(names: list[str]) -> None:
    with style():
        figure, axes = panel()
        add_legend(figure, axes, [axes.plot([0, 1], **line_look(n))[0] for n in range(len(names))], names)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
    assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= figure.bbox.x1) == (True, True, True)


def test_a_heat_map_is_a_picture_with_a_dot_a_cell() -> None:
    figure = heat_map(
        np.array([[0.0, 1.0, np.nan]]), (["a", "b", "c"], ["r"]), [["0", "1", ""]], labels=("x", "y"), limits=(0, 1)
    )
    svg = to_svg(Drawing("heat", figure, ""))
    assert re.search(r'<image [^>]*width="3" height="1"', svg)
    assert {"a", "b", "c", "r", "0", "1", "x", "y"} <= set(texts(svg))
