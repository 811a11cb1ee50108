"""The peak of memory that a run notes: that of its own time, wherever the kernel can say so."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from support.training import CPU

from drcli.engine import device
from drcli.engine.device import PeakMemory

LARGE = 200 * 2**20  # bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux forgets its mark")
def test_the_peak_counts_what_was_freed_again_until_the_next_run_begins() -> None:
    first = PeakMemory(CPU)
    before = first.of_process()
    taken = np.ones(LARGE // 8)
    del taken
    after = first.of_process()
    assert before is not None
    assert after is not None
    assert after > before + 0.9 * LARGE
    second = PeakMemory(CPU).of_process()
    assert second is not None
    assert second < after - 0.5 * LARGE


def test_where_the_kernel_does_not_tell_the_mark_since_the_start_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(device, "_PROCESS", tmp_path / "absent")
    found = PeakMemory(CPU).of_process()
    assert found is not None
    assert found > 2**20


def test_on_a_cpu_there_is_no_gpu_memory() -> None:
    assert PeakMemory(CPU).of_gpu() is None
