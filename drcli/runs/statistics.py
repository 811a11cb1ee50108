"""Statistics over seeds, methods and datasets: pure functions of numbers.

docs/statistics.md says in plain words what each is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev

RESAMPLES = 10_000
"""Draws of `bootstrap_interval`."""


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1), or None for fewer than two values."""
    return stdev(values) if len(values) > 1 else None


def paired_differences(values: Mapping[int, float], reference: Mapping[int, float]) -> list[float]:
    """Return value minus reference for every seed that both have, in the order of the values."""
    return [value - reference[seed] for seed, value in values.items() if seed in reference]


def t_interval(differences: Sequence[float], confidence: float = 0.95) -> list[float] | None:
    """Return [low, high] of Student's t interval for the mean of paired differences.

    None for fewer than two differences.
    """
    if len(differences) < 2:
        return None
    from scipy.stats import t

    mean = fmean(differences)
    error = stdev(differences) / math.sqrt(len(differences))
    reach = float(t.ppf(0.5 + confidence / 2, len(differences) - 1)) * error
    return [mean - reach, mean + reach]


def bootstrap_interval(
    differences: Sequence[float], confidence: float = 0.95, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[float] | None:
    """Return [low, high] of the percentile bootstrap for the mean of paired differences (Efron 1979).

    With few seeds it is too narrow: of three there are ten distinct resamples. It is shown beside
    `t_interval`, which it replaces where differences are far from normal and seeds are many.

    None for fewer than two differences.
    """
    if len(differences) < 2:
        return None
    import numpy as np

    values = np.asarray(differences, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    limits = np.quantile(values[draws].mean(axis=1), [(1 - confidence) / 2, (1 + confidence) / 2])
    return [float(limit) for limit in limits]


def ranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value, 1 for the largest; equal values share the mean of their ranks."""
    return [
        sum(other > value for other in values) + (1 + sum(other == value for other in values)) / 2 for value in values
    ]


LEVEL = 0.05
"""Of tests and of the critical difference."""
POWER = 0.8
"""Share of studies that show a difference that is there."""
MOST_SEEDS = 10_000
APART = 0.001
"""Level below which validation and test are said to differ: the epoch that is best on validation by chance is not."""


def paired_p(differences: Sequence[float]) -> float | None:
    """Return the two-sided p-value of the paired t-test: t = mean / (s / sqrt(n)), with n - 1 degrees of freedom.

    None for fewer than two differences. Where all of them are equal it is 1 for zeros, else 0.
    """
    if len(differences) < 2:
        return None
    mean, deviation = fmean(differences), stdev(differences)
    if deviation == 0:
        return float(mean == 0)
    from scipy.stats import t

    return float(2 * t.sf(abs(mean) * math.sqrt(len(differences)) / deviation, len(differences) - 1))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number (Holm, Scandinavian Journal of Statistics 1979).

    Of m values in rising order, the k-th (from 1) becomes the greatest of min(1, (m - j + 1) p_j) over j <= k. The
    chance of even one false finding among those below a level is at most that level.
    """
    found: dict[str, float] = {}
    greatest = 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        greatest = max(greatest, min(1.0, (len(p_values) - rank) * p))
        found[name] = greatest
    return {name: found[name] for name in p_values}


def power(n: int, effect: float) -> float:
    """Return the chance that the two-sided paired t-test finds a difference, at LEVEL.

    It is P(|T| > c), with T = (Z + effect sqrt(n)) / sqrt(V / (n - 1)), Z standard normal, V chi-squared with n - 1
    degrees of freedom, c the critical value of Student's t; the mean over V is taken by Gauss-Legendre quadrature.

    Args:
        n: number of pairs, 2 or more.
        effect: mean difference over the standard deviation of the differences.
    """
    import numpy as np
    from scipy.stats import chi2, norm, t

    points, weights = np.polynomial.legendre.leggauss(200)
    scale = t.ppf(1 - LEVEL / 2, n - 1) * np.sqrt(chi2.ppf((points + 1) / 2, n - 1) / (n - 1))
    shift = effect * math.sqrt(n)
    return float((weights / 2 * (norm.sf(scale - shift) + norm.cdf(-scale - shift))).sum())


def detectable(n: int, deviation: float) -> float:
    """Return the least mean difference that n pairs show with the chance POWER, for differences of this deviation."""
    from scipy.optimize import brentq

    return deviation * float(brentq(lambda effect: power(n, effect) - POWER, 0.0, 100.0))


def seeds_for(difference: float, deviation: float) -> int | None:
    """Return the fewest pairs that show a mean difference with the chance POWER; None for more than MOST_SEEDS.

    Args:
        difference: greater than zero.
        deviation: standard deviation of the differences.
    """
    from bisect import bisect_left

    if power(MOST_SEEDS, difference / deviation) < POWER:
        return None
    return 2 + bisect_left(range(2, MOST_SEEDS), POWER, key=lambda n: power(n, difference / deviation))


def friedman_p(places: Sequence[Sequence[float]]) -> float | None:
    """Return the p-value of Friedman's test that all methods have the same rank on average.

    Args:
        places: for each dataset the ranks of the K methods, or scores in their place.

    None for fewer than three methods or two datasets, and where all methods are equal everywhere.
    """
    if len(places) < 2 or len(places[0]) < 3 or all(len(set(of_one)) == 1 for of_one in places):
        return None
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*zip(*places, strict=True)).pvalue)


def critical_difference(methods: int, datasets: int) -> float:
    """Return how far average ranks must be apart to differ, at LEVEL, by Nemenyi's test (Demsar, JMLR 2006, 3.2.2).

    It is q sqrt(K (K + 1) / (6 N)) for K methods and N datasets, q the critical value of the Studentised range for K
    groups and infinitely many degrees of freedom, divided by sqrt(2).

    Args:
        methods: K, 2 or more.
        datasets: N, 1 or more.
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - LEVEL, methods, math.inf)) / math.sqrt(2)
    return q * math.sqrt(methods * (methods + 1) / (6 * datasets))


def proportions_p(one: float, n: int, other: float, m: int) -> float:
    """Return the two-sided p-value of the two-proportion z-test.

    z = (p1 - p2) / sqrt(p (1 - p) (1 / n + 1 / m)), with p the share in both together.

    Args:
        one: share of n.
        n: number of samples.
        other: share of m.
        m: number of the other samples.
    """
    both = (one * n + other * m) / (n + m)
    error = math.sqrt(max(0.0, both * (1 - both)) * (1 / n + 1 / m))
    return math.erfc(abs(one - other) / error / math.sqrt(2)) if error > 0 else 1.0
