"""The order of the contract's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("test_contract.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the contract's tests of one subject follow each other: they share runs."""
    places = [place for place, item in enumerate(items) if item.path == CONTRACT]
    by_subject = sorted((items[place] for place in places), key=_subject)
    for place, item in zip(places, by_subject, strict=True):
        items[place] = item


def _subject(item: pytest.Item) -> str:
    return str(item.callspec.params.get("subject", "")) if hasattr(item, "callspec") else ""
