"""A few damaged files for each reader of downloads; `make fuzz` tries many more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from fuzz import csd, fsdd, idx, images, lists, mosi_pickles, npz, pickles
from hypothesis import HealthCheck, given, settings

READERS = (csd, fsdd, idx, images, lists, mosi_pickles, npz, pickles)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__.rsplit(".")[-1])
def test_damaged_files_are_read_right_or_refused(reader: ModuleType, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()

    @settings(derandomize=True, max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(reader.inputs())
    def read(data: bytes) -> None:
        outcomes[reader.check(data, tmp_path)] += 1

    read()
    assert set(outcomes) == {"accepted", "refused"}  # the damage is neither always fatal nor never
