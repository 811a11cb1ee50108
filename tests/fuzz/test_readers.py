"""A few inputs for every reader; `make fuzz` takes thousands."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz import run
from fuzz.mutation import SilentAcceptanceError
from hypothesis import HealthCheck, Phase, given, settings


@pytest.mark.parametrize("name", run.modules())
def test_every_input_is_read_right_or_refused_in_one_message(name: str, tmp_path: Path) -> None:
    module: Any = importlib.import_module(f"fuzz.{name}")
    outcomes: Counter[str] = Counter()

    @settings(
        max_examples=40,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(module.inputs())
    def one(data: bytes) -> None:
        outcomes[module.check(data, tmp_path)] += 1

    one()
    assert set(outcomes) == {"accepted", "refused"}  # the damage is neither always fatal nor never


def test_uncaught_errors_are_counted_by_their_kind(tmp_path: Path) -> None:
    class Module:
        @staticmethod
        def check(data: bytes, folder: Path) -> str:
            if data == b"silent":
                raise SilentAcceptanceError("why")
            return {b"ok": "accepted"}[data]

    assert run.outcome(Module, b"ok", tmp_path) == {"kind": "accepted"}
    assert run.outcome(Module, b"silent", tmp_path) == {"kind": "silent", "what": "why"}
    found = run.outcome(Module, b"no", tmp_path)
    assert found["kind"] == "traceback"
    assert found["what"].startswith("KeyError: b'no' (test_readers.py:")
