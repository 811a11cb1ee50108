"""Numbers and selection in words."""

from __future__ import annotations

import pytest

from drcli.runs.wording import (
    Selected,
    duration,
    how_selected,
    interval,
    mean_and_spread,
    percent,
    points,
    seconds_of,
)


@pytest.mark.parametrize(
    ("selections", "monitor", "text"),
    [
        (["val"], "none", "selected on val"),
        (["test"], "none", "selected on test"),
        (["test", "val"], "none", "selected on test, val"),
        (["last"], "none", "selected as the last"),
        (["last", "val"], "none", "selected on val, or as the last"),
        (["val"], "test", "selected on val; the test split was watched while training"),
    ],
)
def test_how_a_score_came_about_is_said_in_words(selections: list[str], monitor: str, text: str) -> None:
    assert how_selected(Selected(selection, monitor) for selection in selections) == text


def test_differences_and_means_are_in_per_cent() -> None:
    assert (points(-0.0001), points(0.012), points(-0.25)) == ("+0.0", "+1.2", "-25.0")
    assert interval([-0.01, 0.02]) == "[-1.0, +2.0]"
    assert (mean_and_spread(None), mean_and_spread(0.5), mean_and_spread(0.5, 0.0123)) == ("-", "50.0", "50.0 ± 1.2")


def test_seconds_before_a_run_are_told_apart_from_its_own() -> None:
    assert (seconds_of(12.4, 0.0), seconds_of(12.4, 40.0)) == ("12", "12 + 40")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.4, "0:42"), (59.6, "1:00"), (725, "12:05"), (3599.6, "1:00:00"), (11229, "3:07:09")],
)
def test_durations_read_as_clock_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("fraction", "text"), [(0, "0.0 %"), (0.84149, "84.1 %"), (1, "100.0 %")])
def test_fractions_read_as_percentages(fraction: float, text: str) -> None:
    assert percent(fraction) == text
