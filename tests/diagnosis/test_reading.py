"""The words for a diagnosis, on both sides of each threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from drcli.diagnosis import ModalityDiagnosis, reading

TYPICAL = ModalityDiagnosis(
    purity_train=0.9,
    purity_val=0.88,
    gap=0.02,
    gap_permuted=0.04,
    strength=0.06,
    purity_permuted_train=0.15,
    purity_permuted_val=0.19,
    purity_adjusted_train=0.882,
    purity_adjusted_val=0.852,
    gap_adjusted=0.03,
    num_train=900,
    num_val=300,
)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, "generalises: train and validation cluster alike; would be pulled back by 0.06"),
        (
            {"purity_train": 0.9, "purity_val": 0.66, "gap": 0.24, "strength": 0.61},
            "over-trained: would be pulled back by 0.61",
        ),
        # 0.09 is exactly the floor and its margin; a little more is over-training
        (
            {"purity_val": 0.81, "gap": 0.089},
            "generalises: train and validation cluster alike; would be pulled back by 0.06",
        ),
        ({"purity_val": 0.81, "gap": 0.091, "strength": 0.27}, "over-trained: would be pulled back by 0.27"),
        (
            {"purity_train": 0.16, "purity_val": 0.2, "gap": 0.04},
            "little to re-learn from: its clusters hardly follow the classes",
        ),
        # a tenth of the way from 0.15 to 1 is 0.235
        (
            {"purity_train": 0.23, "purity_val": 0.25, "gap": 0.02},
            "little to re-learn from: its clusters hardly follow the classes",
        ),
        (
            {"purity_train": 0.24, "purity_val": 0.25, "gap": 0.01},
            "generalises: train and validation cluster alike; would be pulled back by 0.06",
        ),
        # memorised noise: validation knows nothing, train does
        ({"purity_val": 0.19, "gap": 0.71, "strength": 0.97}, "over-trained: would be pulled back by 0.97"),
        (
            {"purity_train": 0.6, "purity_val": 0.8, "gap": 0.2, "strength": 0.54},
            "clusters better on validation than on train: would be pulled back by 0.54",
        ),
        # with `gap: signed` the same is no gap
        (
            {"purity_train": 0.6, "purity_val": 0.8, "gap": 0.0},
            "generalises: train and validation cluster alike; would be pulled back by 0.06",
        ),
    ],
)
def test_reading_names_the_learning_state(found: dict[str, Any], expected: str) -> None:
    assert reading(replace(TYPICAL, **found)) == expected
