"""Maps by class: every class numbered where it lies, no number on another, a legend that fits."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from matplotlib.figure import Figure

from drcli.report.figures.representations import (
    APART,
    Map,
    add_class_legend,
    class_legend_height,
    draw_map,
    number_places,
)
from drcli.report.theme import PAPER


def test_a_number_stands_on_the_point_of_its_class_nearest_to_the_median() -> None:
    points = np.array([[0.0, 0], [1, 0], [9, 0], [5, 5], [5, 6]])
    places = number_places(points, np.array([0, 0, 0, 1, 1]))
    np.testing.assert_array_equal(places[0], [1, 0])
    assert places[1].tolist() in ([5, 5], [5, 6])


def test_numbers_of_classes_that_lie_together_keep_apart() -> None:
    points = np.random.default_rng(0).normal(size=(600, 2))
    places = number_places(points, np.arange(600) % 20)
    assert len(places) == 20
    size = np.ptp(points, axis=0)
    assert min(np.linalg.norm((one - other) / size) for one, other in combinations(places.values(), 2)) >= APART


def test_a_class_without_room_has_no_number() -> None:
    places = number_places(np.zeros((4, 2)), np.array([0, 0, 1, 1]))
    assert list(places) == [0]


@pytest.mark.parametrize(("count", "numbered"), [(40, True), (41, False)])
def test_numbers_and_names_are_there_for_forty_classes(count: int, numbered: bool) -> None:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    points = np.stack(np.divmod(np.arange(count), 7), axis=1).astype(float)
    draw_map(axes, Map(points, np.arange(count), np.zeros(count, dtype=bool), count), PAPER)
    add_class_legend(figure, [f"class {number}" for number in range(count)], PAPER)
    assert [text.get_text() for text in axes.texts] == [str(number) for number in range(count if numbered else 0)]
    assert len(figure.legends) == int(numbered)


def test_hollow_points_are_drawn_behind_the_others() -> None:
    axes = Figure().subplots()
    points = np.array([[0.0, 0], [1, 1], [2, 0]])
    draw_map(axes, Map(points, np.zeros(3, dtype=int), np.array([True, False, True]), 3), PAPER)
    behind, before = axes.lines
    assert [np.size(line.get_xdata()) for line in (behind, before)] == [2, 1]
    assert behind.get_zorder() < before.get_zorder()
    assert behind.get_markerfacecolor() == "none"


@pytest.mark.parametrize(
    ("rows", "said"), [(1000, "t-SNE 1 (1000 rows)"), (1001, "t-SNE 1 (1000 of 1001 rows, drawn at random)")]
)
def test_rows_are_said_to_be_drawn_where_some_are_left_out(rows: int, said: str) -> None:
    axes = Figure().subplots()
    draw_map(axes, Map(np.zeros((1000, 2)), np.zeros(1000, dtype=int), np.zeros(1000, dtype=bool), rows), PAPER)
    assert axes.get_xlabel() == said


@pytest.mark.parametrize(("count", "width"), [(2, 7), (12, 7), (40, 7), (40, 13)])
def test_a_legend_of_long_names_is_as_wide_as_the_figure_and_as_high_as_foreseen(count: int, width: float) -> None:
    names = [f"as long as it gets {number}" for number in range(count)]
    figure = Figure(figsize=(width, 4), layout="constrained")
    figure.subplots()
    add_class_legend(figure, names, PAPER)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.height / figure.dpi <= class_legend_height(names, width)
    assert figure.legends[0].get_title().get_text() == "class"
