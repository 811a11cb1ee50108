"""Curves with not too many points, heat maps whose texts can be read, legends within their figure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from drcli.report.drawing import (
    MOST_POINTS,
    Curve,
    add_legend,
    curve,
    draw_curve,
    draw_heat_map,
    heat_panel,
    merged,
    panel,
    sample,
    shortened,
)
from drcli.report.theme import OTHER, PAGE, look


def test_each_epoch_is_averaged_over_the_seeds_that_have_it() -> None:
    found = curve([{0: 0.2, 1: 0.4}, {0: 0.4}])
    assert found is not None
    assert list(found.epochs) == [0, 1]
    assert found.mean == pytest.approx([0.3, 0.4])
    assert found.std == pytest.approx([0.02**0.5, 0.0])  # (0.1^2 + 0.1^2) / (2 - 1)


def test_long_curves_are_thinned_evenly_with_both_ends() -> None:
    found = curve([dict.fromkeys(range(1000), 1.0)])
    assert found is not None
    assert (len(found.epochs), found.epochs[0], found.epochs[-1]) == (MOST_POINTS, 0, 999)
    steps = {b - a for a, b in zip(found.epochs, found.epochs[1:], strict=False)}
    assert steps <= {8, 9}  # 999 / 119 = 8.4


def test_no_values_give_no_curve() -> None:
    assert curve([{}, {}]) is None


def test_epochs_that_must_be_kept_are() -> None:
    found = curve([dict.fromkeys(range(1000), 1.0)], keep=[1, 500, 2000])
    assert found is not None
    assert len(found.epochs) in {MOST_POINTS + 1, MOST_POINTS + 2}
    assert {1, 500} <= set(found.epochs)
    assert list(found.epochs) == sorted(found.epochs)
    assert max(found.epochs) == 999


def test_a_curve_is_drawn_with_its_band_and_the_look_of_its_method() -> None:
    axes = Figure().subplots()
    line = draw_curve(axes, Curve([0, 1, 2], [1.0, 2.0, 3.0], [0.5, 0.0, 1.0]), look(1), "--", PAGE)
    assert (line.get_color(), line.get_marker(), line.get_linestyle()) == (*look(1), "--")  # type: ignore[attr-defined]
    (band,) = axes.collections
    corners: Any = band.get_paths()[0].vertices
    assert {(0.0, 0.5), (0.0, 1.5), (2.0, 2.0), (2.0, 4.0)} <= {tuple(map(float, corner)) for corner in corners}
    colour: Any = band.get_facecolor()
    assert to_hex(colour[0]) == look(1).colour


def test_a_curve_of_one_seed_has_no_band() -> None:
    axes = Figure().subplots()
    draw_curve(axes, Curve([0, 1], [1.0, 2.0], [0.0, 0.0]), look(0), "-", PAGE)
    assert not axes.collections


@pytest.mark.parametrize("names", [list("0123456789"), ["training", "validation", "re-learning"], ["n" * 36, "i"]])
def test_a_legend_stays_within_its_figure(names: list[str]) -> None:
    with PAGE.applied():
        figure, axes = panel()
        before = figure.get_figheight()
        axes.plot([0, 1])
        add_legend(figure, [(sample(PAGE, look(n)), name) for n, name in enumerate(names)], PAGE)
        figure.canvas.draw()
        box = figure.legends[0].get_window_extent()
    assert figure.get_figheight() > before
    assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= figure.bbox.x1) == (True, True, True)


def test_methods_without_a_colour_are_thin_lines_that_share_one_line_of_the_legend() -> None:
    with PAGE.applied():
        figure, axes = panel()
        looks = {"joint": look(0), "ogm": OTHER, "pmr": OTHER}
        drawn = Curve([0, 1], [1.0, 2.0], [0.5, 0.5])
        keys = [(draw_curve(axes, drawn, looks[name], "-", PAGE), name) for name in looks]
        add_legend(figure, keys, PAGE)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["joint", "2 other methods"]
    assert len(axes.collections) == 1  # the band of joint alone
    one, *others = axes.lines
    assert all(line.get_zorder() < one.get_zorder() and line.get_marker() == "None" for line in others)
    assert [name for _, name in merged(keys[:2])] == ["joint", "ogm"]  # one alone keeps its name


@pytest.mark.parametrize(("names", "rotation"), [(["a", "b", "c"], 0), (["zero", "one", "two", "three"] * 3, 90)])
def test_names_below_a_heat_map_do_not_cover_each_other(names: list[str], rotation: int) -> None:
    with PAGE.applied():
        figure, axes = heat_panel((names, ["r"]))
        draw_heat_map(axes, np.zeros((1, len(names))), (names, ["r"]), None, labels=("x", "y"), limits=(0, 1))
        figure.canvas.draw()
        boxes = sorted((text.get_window_extent() for text in axes.get_xticklabels()), key=lambda box: box.x0)
    assert {text.get_rotation() for text in axes.get_xticklabels()} == {rotation}
    assert all(one.x1 <= other.x0 for one, other in pairwise(boxes))
    assert all(box.y0 >= 0 for box in boxes)


def test_shades_of_two_signs_are_nothing_at_zero() -> None:
    axes = Figure().subplots()
    image = draw_heat_map(
        axes, np.array([[-2.0, 0.0, 2.0]]), (["a", "b", "c"], ["r"]), None, labels=("x", "y"), limits=(-2, 2)
    )
    low, middle, high = image.cmap(image.norm([-2.0, 0.0, 2.0]))  # type: ignore[attr-defined]
    assert middle[3] == pytest.approx(0, abs=0.01)
    assert (low[3], high[3]) == pytest.approx((0.6, 0.6))
    assert low[0] > low[2]
    assert high[2] > high[0]


@pytest.mark.parametrize(("name", "shown"), [("a\nb", "a b"), ("x" * 24, "x" * 24), ("x" * 25, "x" * 21 + "...")])
def test_a_long_name_is_cut_and_put_on_one_line(name: str, shown: str) -> None:
    assert shortened(name) == shown
