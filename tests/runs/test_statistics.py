"""Statistics over seeds, methods and datasets against scipy, published tables, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, chi2, chi2_contingency, nct, rankdata, t, ttest_rel

from drcli.runs.statistics import (
    bootstrap_interval,
    critical_difference,
    detectable,
    friedman_p,
    holm,
    paired_p,
    power,
    proportions_p,
    ranks,
    seeds_for,
    spread,
    t_interval,
)

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


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_p_value_is_that_of_a_paired_t_test(n: int) -> None:
    differences = [a - b for a, b in zip(OURS[:n], THEIRS[:n], strict=True)]
    assert paired_p(differences) == pytest.approx(ttest_rel(OURS[:n], THEIRS[:n]).pvalue)


@pytest.mark.parametrize(("differences", "p"), [([], None), ([0.1], None), ([0.0, 0.0], 1.0), ([0.5, 0.5, 0.5], 0.0)])
def test_the_p_value_of_no_spread_is_one_of_zeros_and_else_zero(differences: list[float], p: float | None) -> None:
    assert paired_p(differences) == p


def test_holms_correction_by_hand() -> None:
    """In rising order 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04, which is less than the one before it."""
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(found) == ["a", "b", "c", "d"]
    assert list(found.values()) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm({"a": 0.4, "b": 0.9}) == {"a": 0.8, "b": 0.9}
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@pytest.mark.parametrize(("n", "effect"), [(3, 0.5), (5, 1.0), (5, 1.6), (10, 0.8), (40, 0.2)])
def test_the_power_is_that_of_the_noncentral_t_distribution(n: int, effect: float) -> None:
    critical, shift = t.ppf(0.975, n - 1), effect * np.sqrt(n)
    expected = nct.sf(critical, n - 1, shift) + nct.cdf(-critical, n - 1, shift)
    assert power(n, effect) == pytest.approx(expected, abs=1e-5)


def test_without_a_difference_one_study_in_twenty_shows_one() -> None:
    assert power(2, 0.0) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_as_many_pairs_are_needed_as_tables_of_sample_sizes_say(effect: float, pairs: int) -> None:
    """Paired t-test, two-sided at 5 %, power 80 %: the figures that G*Power gives."""
    assert seeds_for(0.01 * effect, 0.01) == pairs


def test_what_so_many_pairs_can_show_takes_so_many_pairs() -> None:
    least = detectable(5, 0.012)
    assert power(5, least / 0.012) == pytest.approx(0.8)
    assert (seeds_for(1.001 * least, 0.012), seeds_for(0.999 * least, 0.012)) == (5, 6)
    assert seeds_for(0.0001, 0.1) is None
    assert seeds_for(1.0, 0.001) == 2


@pytest.mark.parametrize(
    ("methods", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_the_critical_difference_has_the_values_of_demsars_table(methods: int, q: float) -> None:
    """Table 5a; for one dataset it is q sqrt(K (K + 1) / 6)."""
    assert critical_difference(methods, 1) == pytest.approx(q * np.sqrt(methods * (methods + 1) / 6), rel=5e-4)


def test_the_critical_difference_of_demsars_example() -> None:
    """Four methods on 14 data sets: 2.569 sqrt(4 x 5 / (6 x 14)) = 1.25."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_friedmans_test_by_its_formula() -> None:
    """12 N / (K (K + 1)) (sum of squared mean ranks - K (K + 1)^2 / 4), chi-squared with K - 1 degrees of freedom."""
    places = [[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0]]
    means = np.mean(places, axis=0)
    statistic = 12 * 4 / (3 * 4) * ((means**2).sum() - 3 * 16 / 4)
    assert friedman_p(places) == pytest.approx(chi2.sf(statistic, 2))


@pytest.mark.parametrize("places", [[], [[1.0, 2.0, 3.0]], [[1.0, 2.0], [1.0, 2.0]], [[2.0, 2.0, 2.0]] * 3])
def test_friedmans_test_needs_three_methods_two_datasets_and_a_difference(places: list[list[float]]) -> None:
    assert friedman_p(places) is None


@pytest.mark.parametrize(("right", "n", "other", "m"), [(270, 300, 348, 600), (90, 100, 170, 200), (1, 4, 3, 5)])
def test_two_proportions_are_compared_as_in_a_table_of_counts(right: int, n: int, other: int, m: int) -> None:
    """The square of z is Pearson's chi-squared of the table."""
    expected = chi2_contingency([[right, n - right], [other, m - other]], correction=False).pvalue
    assert proportions_p(right / n, n, other / m, m) == pytest.approx(expected)


def test_equal_proportions_of_nothing_or_all_do_not_differ() -> None:
    assert proportions_p(1.0, 10, 1.0, 20) == 1.0
    assert proportions_p(0.0, 10, 0.0, 20) == 1.0
