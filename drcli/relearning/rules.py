"""From a diagnosis to the strength of the pull: the paper's rule, variants of it, and controls.

With g_m the purity gap of modality m, f_m its floor (the gap that the same clusters have under permuted labels)
and P' = (P - P_perm) / (1 - P_perm) a purity corrected for chance, as the Rand index is adjusted:

    gap          a_m = tanh(lambda g_m)                           Wei et al. 2024, arXiv 2407.09705
    above_floor  a_m = tanh(lambda max(g_m - f_m, 0))
    relative     a_m = tanh(lambda (g_m - min over n of g_n))
    adjusted     a_m = tanh(lambda g'_m), g'_m the gap of P'_train and P'_val
    shuffled     the strengths of `gap`, each given to another modality
    random       uniform numbers whose mean is that of the strengths of `gap`
    a number     this strength for every modality

The last three are controls: what a diagnosis adds is the difference from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from drcli.diagnosis import ModalityDiagnosis, strength
from drcli.diagnosis.settings import Slopes, slope_of
from drcli.relearning.settings import Rule

Found = Mapping[str, ModalityDiagnosis]
Strengths = dict[str, float]

MEASURE_SHARES = {"gap", "above_floor", "relative"}
"""Rules whose gap is not zero where only the class shares of train and validation differ."""


def strengths(rule: Rule | float, found: Found, *, lambda_: Slopes, seed: tuple[int, ...] = (0,)) -> Strengths:
    """Return how strongly each modality's encoder is pulled, {m: a_m} in [0, 1].

    Args:
        rule: a name of RULES, or one strength for all.
        found: the diagnosis of every modality.
        lambda_: slope from gap to strength, or {m: slope of m}; 0 switches every rule but a number off.
        seed: of the rules that draw; the same seed gives the same strengths.

    Raises:
        ValueError: the rule is not known, or the number lies outside [0, 1].
    """
    if isinstance(rule, str):
        if rule not in RULES:
            raise ValueError(f"strength must be a number or one of {', '.join(RULES)}, got {rule!r}")
        return RULES[rule](found, lambda_, np.random.default_rng(seed))
    if not 0.0 <= rule <= 1.0:
        raise ValueError(f"strength must lie in [0, 1], got {rule}")
    return dict.fromkeys(found, float(rule))


def shares_differ(apart: float) -> str:
    """Return the warning that a gap is not the encoder's alone.

    Args:
        apart: total variation distance of the class shares.
    """
    return (
        f"class shares of train and validation differ (total variation distance {apart:.2f}), and a purity gap "
        "measures that, too"
    )


def _gap(found: Found, lambda_: Slopes, _: np.random.Generator) -> Strengths:
    return {m: strength(one.gap, slope_of(lambda_, m)) for m, one in found.items()}


def _above_floor(found: Found, lambda_: Slopes, _: np.random.Generator) -> Strengths:
    return {m: strength(one.gap_above_floor, slope_of(lambda_, m)) for m, one in found.items()}


def _relative(found: Found, lambda_: Slopes, _: np.random.Generator) -> Strengths:
    least = min(one.gap for one in found.values())
    return {m: strength(one.gap - least, slope_of(lambda_, m)) for m, one in found.items()}


def _adjusted(found: Found, lambda_: Slopes, _: np.random.Generator) -> Strengths:
    return {m: strength(one.gap_adjusted, slope_of(lambda_, m)) for m, one in found.items()}


def _shuffled(found: Found, lambda_: Slopes, generator: np.random.Generator) -> Strengths:
    """Move every strength on by the same number of modalities, 1 to M - 1: none keeps its own."""
    values = list(_gap(found, lambda_, generator).values())
    by = int(generator.integers(1, len(values))) if len(values) > 1 else 0
    return dict(zip(found, values[by:] + values[:by], strict=True))


def _random(found: Found, lambda_: Slopes, generator: np.random.Generator) -> Strengths:
    """Draw from the widest interval inside [0, 1] around the mean of the strengths of `gap`."""
    mean = float(np.mean(list(_gap(found, lambda_, generator).values())))
    reach = min(mean, 1.0 - mean)
    drawn = generator.uniform(mean - reach, mean + reach, size=len(found))
    return {m: min(max(float(a), 0.0), 1.0) for m, a in zip(found, drawn, strict=True)}


RULES: Mapping[Rule, Callable[[Found, Slopes, np.random.Generator], Strengths]] = {
    "gap": _gap,
    "above_floor": _above_floor,
    "relative": _relative,
    "adjusted": _adjusted,
    "shuffled": _shuffled,
    "random": _random,
}
