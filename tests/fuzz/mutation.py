"""Damages valid files as disks, editors and attackers do: bytes changed, cut out, put in, repeated, cut off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hypothesis import strategies as st

from drcli.errors import DataError

Edit = tuple[Literal["replace", "insert", "delete", "repeat", "cut"], int, int, bytes]

PIECES = (
    b"\x00",
    b"\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\x00" * 16,
    b"\n",
    b"\r",
    b",",
    b" ",
    b'"',
    b"../",
    b"-1",
    b"9" * 40,
    b"nan",
    b"\xe2\x80\xa8",
    b"\xc3",
)
"""What is put in: ends of ranges, separators, and what text should not hold."""

EDITS: st.SearchStrategy[Edit] = st.tuples(
    st.sampled_from(("replace", "insert", "delete", "repeat", "cut")),
    st.integers(0, 2**32 - 1),
    st.integers(1, 64),
    st.one_of(st.sampled_from(PIECES), st.binary(min_size=1, max_size=8)),
)


def mutated(valid: Sequence[bytes], extra: Sequence[bytes] = ()) -> st.SearchStrategy[bytes]:
    """One of some valid files after at most six edits, an arbitrary one, or one of some special ones."""
    little, much = (st.builds(apply, st.sampled_from(valid), st.lists(EDITS, max_size=most)) for most in (1, 6))
    special = [st.sampled_from(extra)] if extra else []
    return st.one_of(little, much, little, st.binary(max_size=200), *special)


def apply(content: bytes, edits: Sequence[Edit]) -> bytes:
    """The content after the edits, one after the other."""
    for kind, place, length, piece in edits:
        start = place % (len(content) + 1)
        end = start + length
        content = {
            "replace": content[:start] + piece + content[start + len(piece) :],
            "insert": content[:start] + piece + content[start:],
            "delete": content[:start] + content[end:],
            "repeat": content[:end] + content[start:end] + content[end:],
            "cut": content[:start],
        }[kind]
    return content


def refused(error: DataError) -> str:
    """The outcome of a refusal; its message must be one line that every terminal can show."""
    assert str(error).isprintable(), repr(str(error))
    return "refused"
