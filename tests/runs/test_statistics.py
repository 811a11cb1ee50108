"""Statistics over seeds against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, rankdata, ttest_rel

from drcli.runs.statistics import bootstrap_interval, ranks, spread, t_interval

OURS = [0.86, 0.85, 0.88, 0.84, 0.87]
THEIRS = [0.84, 0.85, 0.83, 0.84, 0.85]


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_is_that_of_a_paired_t_test(n: int, confidence: float) -> None:
    differences = [a - b for a, b in zip(OURS[:n], THEIRS[:n], strict=True)]
    expected = ttest_rel(OURS[:n], THEIRS[:n]).confidence_interval(confidence)
    assert t_interval(differences, confidence) == pytest.approx([expected.low, expected.high])


def test_by_default_the_interval_holds_95_per_cent() -> None:
    assert t_interval([1.0, 2.0, 3.0]) == t_interval([1.0, 2.0, 3.0], 0.95)


def test_equal_differences_leave_an_interval_without_width() -> None:
    assert t_interval([0.5, 0.5, 0.5]) == [0.5, 0.5]


@pytest.mark.parametrize("values", [[], [0.1]])
def test_fewer_than_two_values_have_neither_spread_nor_interval(values: list[float]) -> None:
    assert spread(values) is None
    assert t_interval(values) is None


def test_the_spread_divides_by_n_minus_1() -> None:
    assert spread([1.0, 2.0, 3.0]) == 1.0


def test_the_bootstrap_interval_is_scipys_percentile_interval() -> None:
    differences = [0.02, 0.0, 0.05, -0.01, 0.02, 0.03, 0.01]
    expected = bootstrap(
        (differences,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    width = expected.high - expected.low
    assert bootstrap_interval(differences) == pytest.approx([expected.low, expected.high], abs=0.05 * width)


def test_the_bootstrap_of_two_values_knows_only_three_means() -> None:
    assert bootstrap_interval([0.0, 1.0]) == [0.0, 1.0]
    assert bootstrap_interval([0.0, 1.0], confidence=0.4) == [0.5, 0.5]


def test_the_bootstrap_repeats() -> None:
    values = [0.1, 0.4, 0.2]
    assert bootstrap_interval(values) == bootstrap_interval(values)


def test_one_value_has_no_bootstrap_interval() -> None:
    assert bootstrap_interval([0.1]) is None


@pytest.mark.parametrize("values", [[0.3, 0.9, 0.5], [0.5, 0.5, 0.9, 0.5], [0.2], []])
def test_ranks_are_scipys_from_the_largest_down(values: list[float]) -> None:
    assert ranks(values) == rankdata([-value for value in values]).tolist()
