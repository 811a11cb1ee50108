from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.writing.journal import Entry, Journal


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
        b'{"id": ["a"]}',
        b'{"id": 3}',
        b'{"id": "a", "bad_packets": "many"}',
        b'{"id": "a", "bad_packets": -1}',
        b'{"id": "a", "bad_packets": true}',
        b'{"id": "a", "reason": 5}',
        b'{"id": "a", "more": 5}',
        b'{"id": "a", "bad_packets": ' + b"9" * 5000 + b"}",
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
