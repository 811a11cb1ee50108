"""Curves over epochs: mean and deviation over seeds, and not too many points."""

from __future__ import annotations

import pytest

from drcli.report.page.series import MOST_POINTS, at, curve


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


def test_only_numbers_at_the_whole_path_are_taken() -> None:
    records = [
        {"epoch": 0, "val": {"accuracy": 0.5}},
        {"epoch": 1, "val": {}},
        {"epoch": 2, "val": None},
        {"epoch": 3, "val": {"accuracy": None}},
    ]
    assert at(records, "val", "accuracy") == {0: 0.5}


def test_epochs_that_must_be_kept_are() -> None:
    found = curve([dict.fromkeys(range(1000), 1.0)], keep=[1, 500, 2000])
    assert found is not None
    assert len(found.epochs) in {MOST_POINTS + 1, MOST_POINTS + 2}
    assert {1, 500} <= set(found.epochs)
    assert list(found.epochs) == sorted(found.epochs)
    assert max(found.epochs) == 999
