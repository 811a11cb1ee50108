"""A few of the inputs of `make fuzz` for media, always the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.media import check, inputs, seeds
from hypothesis import HealthCheck, given, settings


@given(data=inputs())
@settings(
    max_examples=60,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_a_damaged_file_is_read_or_refused_with_a_reason(tmp_path: Path, data: bytes) -> None:
    check(data, tmp_path)


@pytest.mark.parametrize("index", range(8))
def test_the_files_that_are_damaged_are_valid_themselves(tmp_path: Path, index: int) -> None:
    assert check(seeds()[index], tmp_path) == "accepted"


def test_a_file_without_any_sense_is_refused(tmp_path: Path) -> None:
    assert check(bytes(range(256)), tmp_path) == "refused"
