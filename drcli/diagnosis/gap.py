"""From two purities to their gap, and from the gap to the strength of re-learning."""

from __future__ import annotations

import math


def purity_gap(purity_train: float, purity_val: float, kind: str = "abs") -> float:
    """Return how far apart train and validation cluster, in [0, 1].

        abs:     g = |P_train - P_val|              (the paper's)
        signed:  g = max(P_train - P_val, 0)        (nothing if validation clusters better)

    Args:
        purity_train: purity of the training set, in [0, 1].
        purity_val: purity of the validation set, in [0, 1].
        kind: "abs" or "signed".

    Raises:
        ValueError: a purity lies outside [0, 1], or `kind` is neither.
    """
    for name, value in (("purity_train", purity_train), ("purity_val", purity_val)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
    if kind == "abs":
        return abs(purity_train - purity_val)
    if kind == "signed":
        return max(purity_train - purity_val, 0.0)
    raise ValueError(f'kind must be "abs" or "signed", got {kind!r}')


def strength(gap: float, lambda_: float) -> float:
    """Return how strongly an encoder is pulled towards its initial weights, in [0, 1].

        a = tanh(lambda * g)

    Args:
        gap: purity gap g, in [0, 1].
        lambda_: slope; 0 switches re-learning off.

    Raises:
        ValueError: the gap lies outside [0, 1], or lambda is negative or not finite.
    """
    if not 0.0 <= gap <= 1.0:
        raise ValueError(f"gap must lie in [0, 1], got {gap}")
    if not 0.0 <= lambda_ < math.inf:
        raise ValueError(f"lambda must be finite and not negative, got {lambda_}")
    return math.tanh(lambda_ * gap)
