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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_array_that_may_be_changed_is_repaired_where_it_is_and_stored_as_its_copy_would_be(dtype: str) -> None:
    values = np.array([[-np.inf, 1.5, 0.1], [np.nan, 2.0, np.inf]], dtype)
    wide = {"float32": [], "float64": [[1e300, -1e-60, -1e300]]}[dtype]  # too large and too small for float32
    values = np.concatenate([values, np.array(wide, dtype).reshape(-1, 3)])
    copied, changed = Repairs(), Repairs()
    expected = copied.finite("audio", values)
    found = changed.finite("audio", values, in_place=True)
    assert np.shares_memory(found, values)
    assert not np.shares_memory(expected, values)
    np.testing.assert_array_equal(found.astype(np.float32), expected)
    assert (found != 0).tolist() == (expected != 0).tolist()
    assert changed.counts == copied.counts


def test_an_array_that_cannot_be_changed_is_copied() -> None:
    values = np.array([np.inf, 1.0], np.float32)
    values.setflags(write=False)
    assert Repairs().finite("audio", values, in_place=True).tolist() == [0, 1]
    assert np.isinf(values[0])
