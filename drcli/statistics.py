"""Statistics over seeds: the seed is the unit, and differences are paired by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation (n - 1), or None for fewer than two values."""
    return stdev(values) if len(values) > 1 else None


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
