"""Colours and markers: told apart by everyone, on both pages, and different for seventy classes."""

from __future__ import annotations

import re
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from drcli.report.page.page import _asset
from drcli.report.theme import BACKGROUND, COLOURS, EVENT, MARKERS, OTHER, PAGE, PAPER, Theme, look

# What is left of linear red, green and blue without one kind of cone: Machado, Oliveira, Fernandes, "A
# physiologically-based model for simulation of color vision deficiency", IEEE TVCG 2009, severity 1.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Ottosson, "A perceptual color space for image processing", 2020: Oklab from linear red, green and blue.
CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def linear(colour: str) -> NDArray[Any]:
    """Linear red, green and blue of an sRGB colour, (3,) in [0, 1]."""
    levels = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


DARK = re.findall(r"--c\d: light-dark\(#\w{6}, (#\w{6})\)", _asset("style.css"))
GROUNDS = {"light": BACKGROUND, "dark": re.findall(r"--bg: light-dark\(#\w{6}, (#\w{6})\)", _asset("style.css"))[0]}
SERIES = {"light": COLOURS, "dark": DARK}


def luminance(colour: str) -> float:
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("page", SERIES)
@pytest.mark.parametrize(("sight", "least"), [(name, 0.19 if name == "all cones" else 0.105) for name in SIGHT])
def test_any_two_colours_are_far_apart(page: str, sight: str, least: float) -> None:
    seen = [OKLAB @ np.cbrt(CONES @ np.clip(SIGHT[sight] @ linear(colour), 0, 1)) for colour in SERIES[page]]
    assert len(seen) == 10
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) >= least


@pytest.mark.parametrize("page", SERIES)
def test_every_colour_stands_out_three_to_one(page: str) -> None:
    for colour in SERIES[page]:
        low, high = sorted((luminance(colour), luminance(GROUNDS[page])))
        assert (high + 0.05) / (low + 0.05) >= 3, colour


def test_seventy_looks_differ_and_neighbours_in_colour_and_marker() -> None:
    looks = [look(number) for number in range(70)]
    assert len(set(looks)) == 70
    for one, other in pairwise(looks):
        assert one.colour != other.colour
        assert one.marker != other.marker


def test_the_marker_of_an_event_is_no_methods() -> None:
    assert EVENT not in MARKERS


@pytest.mark.parametrize("theme", [PAPER, PAGE])
def test_a_method_keeps_its_look_in_both_themes(theme: Theme) -> None:
    of_report = theme.with_methods(["joint", "ogm", "joint", "pmr"])
    assert [of_report.look(name) for name in ("joint", "ogm", "pmr")] == [look(0), look(1), look(2)]


def test_of_more_methods_than_colours_those_that_come_first_have_one_each() -> None:
    names = [f"m{number}" for number in range(12)]
    found = PAGE.with_methods(names, ["m11", "m3"])
    looks = [found.look(name) for name in names]
    assert looks[11] == look(9)  # m0 to m8, and m11
    assert [name for name, seen in zip(names, looks, strict=True) if seen == OTHER] == ["m9", "m10"]
    assert PAGE.with_methods(names[:10], ["m9"]).look("m9") == look(9)
    assert PAGE.with_methods(names).look("m11") == look(11)  # without such an order colours are repeated
