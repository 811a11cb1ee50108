"""Gap and strength against numbers worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drcli.diagnosis import purity_gap, strength

FRACTIONS = st.floats(0, 1)


@pytest.mark.parametrize(
    ("train", "val", "absolute", "signed"),
    [(0.9, 0.65, 0.25, 0.25), (0.5, 0.75, 0.25, 0.0), (1.0, 1.0, 0.0, 0.0)],
)
def test_gap_of_either_kind(train: float, val: float, absolute: float, signed: float) -> None:
    assert purity_gap(train, val) == pytest.approx(absolute)
    assert purity_gap(train, val, "signed") == pytest.approx(signed)


@pytest.mark.parametrize(("gap", "expected"), [(0.0, 0.0), (0.1, 0.291313), (0.2, 0.537050), (0.5, 0.905148)])
def test_strength_at_the_lambda_of_the_paper(gap: float, expected: float) -> None:
    assert strength(gap, 3.0) == pytest.approx(expected, abs=5e-7)


@given(FRACTIONS, FRACTIONS, st.floats(0, 1e6))
def test_strength_is_a_fraction_that_grows_with_the_gap(one: float, other: float, lambda_: float) -> None:
    assert 0.0 <= strength(min(one, other), lambda_) <= strength(max(one, other), lambda_) <= 1.0


@given(FRACTIONS)
def test_lambda_0_switches_re_learning_off(gap: float) -> None:
    assert strength(gap, 0.0) == 0.0


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan])
def test_what_is_no_purity_or_gap_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="purity_val must lie in"):
        purity_gap(0.5, value)
    with pytest.raises(ValueError, match="gap must lie in"):
        strength(value, 3.0)


@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan])
def test_what_is_no_lambda_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="lambda must be finite"):
        strength(0.1, value)


def test_an_unknown_kind_of_gap_is_refused() -> None:
    with pytest.raises(ValueError, match='kind must be "abs" or "signed"'):
        purity_gap(0.5, 0.5, "squared")
