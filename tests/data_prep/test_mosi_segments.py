from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from data_prep.sources.mosi_segments import Contents, Repairs, Segment, check_contents
from drcli.errors import DataError


def contents(**streams: np.ndarray) -> Contents:
    """One segment per split."""
    given = {m: np.ones((2, 3), np.float32) for m in ("text", "audio", "visual")} | streams
    splits = {split: [Segment(split, 1.0, given)] for split in ("train", "val", "test")}
    return Contents(splits, is_aligned=True, repairs=Repairs())


@pytest.mark.parametrize("modality", ["text", "audio", "visual"])
def test_a_modality_that_is_zero_throughout_is_refused(modality: str) -> None:
    check_contents(contents(), "x.pkl")
    with pytest.raises(DataError, match=rf"x\.pkl: {modality} is 0 in every step of all segments"):
        check_contents(contents(**{modality: np.zeros((2, 3), np.float32)}), "x.pkl")


@pytest.mark.parametrize(
    "values", [np.ones(2, dtype=complex), np.array(["1.5", "2"]), np.array([b"1"]), np.zeros(2, "M8[s]")]
)
def test_text_complex_numbers_and_dates_are_no_numbers(values: Any) -> None:
    with pytest.raises(TypeError, match="they are "):
        Repairs().finite("audio", values)


def test_values_that_are_not_finite_become_zero_and_are_counted() -> None:
    repairs = Repairs()
    values = repairs.finite("audio", [[-np.inf, 1.5], [np.nan, 1e300]])
    assert values.tolist() == [[0, 1.5], [0, 0]]
    assert repairs.counts["audio"] == {"-inf": 1, "+inf": 1, "NaN": 1}
