from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.writing.journal import Entry, Journal, _line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two entries, which belongs to "x"."""
    journal = Journal(tmp_path / "journal", "x")
    journal.start()
    journal.append([Entry("a"), Entry("b", reason="corrupt", detail="torn")])
    return tmp_path / "journal"


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"\x80abc",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"",
    ],
)
def test_a_damaged_journal_counts_as_empty_and_can_be_begun_anew(path: Path, line: bytes) -> None:
    path.write_bytes(path.read_bytes() + line + b"\n")
    journal = Journal(path, "x")
    assert journal.entries == {}
    journal.start()
    journal.append([Entry("c")])
    assert Journal(path, "x").entries == {"c": Entry("c")}


@pytest.mark.parametrize(
    "values",
    [
        {"id": ["a"]},
        {"id": 3},
        {"id": "a", "bad_packets": "many"},
        {"id": "a", "bad_packets": -1},
        {"id": "a", "bad_packets": True},
        {"id": "a", "reason": 5},
        {"id": "a", "more": 5},
        {"id": "a", "bad_packets": 9**200},
    ],
)
def test_a_line_that_is_no_entry_makes_the_journal_count_as_empty(path: Path, values: dict[str, Any]) -> None:
    path.write_bytes(path.read_bytes() + _line(values).encode())
    assert Journal(path, "x").entries == {}


def test_another_word_or_number_in_an_entry_is_seen(path: Path) -> None:
    whole = path.read_bytes()
    for old, new in ((b"torn", b"worn"), (b'"bad_packets": 0', b'"bad_packets": 4'), (b'"id": "a"', b'"id": "c"')):
        assert old in whole
        path.write_bytes(whole.replace(old, new, 1))
        assert Journal(path, "x").entries == {}


@pytest.mark.parametrize("place", range(0, 140, 7))
def test_a_byte_that_was_overwritten_gives_no_other_entry(path: Path, place: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + b"\x9c" + whole[place + 1 :])
    assert Journal(path, "x").entries == {}


def test_the_last_entry_of_a_clip_counts(path: Path) -> None:
    Journal(path, "x").append([Entry("b", bad_packets=2)])
    assert Journal(path, "x").entries == {"a": Entry("a"), "b": Entry("b", bad_packets=2)}
    assert [json.loads(line).get("id") for line in path.read_text().splitlines()] == [None, "a", "b", "b"]


def test_something_else_than_a_file_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    assert Journal(tmp_path / "journal", "x").entries == {}
