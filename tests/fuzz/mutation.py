"""Damages valid files as disks, editors and attackers do: bytes changed, cut out, put in, repeated, cut off."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, Literal

from hypothesis import strategies as st

from drcli.errors import DrcliError

Edit = tuple[Literal["replace", "insert", "delete", "repeat", "cut", "flip"], int, int, bytes]

BYTES = (
    *(b"\x00", b"\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\xff" * 4, b"\xff" * 8, b"\x00" * 16),
    *(b"\n", b"\r", b",", b" ", b'"', b"'", b"#", b"../", b"-1", b"0", b"9" * 40, b"nan", b"a" * 300),
)
"""What is put in: ends of ranges, separators, and what text should not hold."""

STUMBLES = (
    *(b"1e999", b"NaN", b"null", b"true", b'""', b"{", b"}", b"[" * 50, b"- " * 50, b"&a ", b"*a", b": "),
    *(b"!!python/name:os.system", b"\x1b[31m", b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\xc3"),
)
"""Pieces that readers of text have stumbled over."""

EDITS: st.SearchStrategy[Edit] = st.tuples(
    st.sampled_from(("replace", "insert", "delete", "repeat", "cut", "flip")),
    st.integers(0, 2**32 - 1),
    st.integers(1, 64),
    st.one_of(st.sampled_from(BYTES), st.sampled_from(STUMBLES), st.binary(min_size=1, max_size=8)),
)

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from((0, -1, 1, 2, 2**31, 2**64, 0.5, -0.5, 1.5, 1e300, "0.5", "", [], {}, [[]], {"a": 1})),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
)
"""Plain data: likely mistakes, and anything."""


class SilentAcceptanceError(AssertionError):
    """A reader took a wrong file for a right one."""


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
        flipped = bytes(byte ^ 1 << length % 8 for byte in content[start : start + 1])
        content = {
            "replace": content[:start] + piece + content[start + len(piece) :],
            "insert": content[:start] + piece + content[start:],
            "delete": content[:start] + content[end:],
            "repeat": content[:end] + content[start:end] + content[end:],
            "cut": content[:start],
            "flip": content[:start] + flipped + content[start + 1 :],
        }[kind]
    return content


@st.composite
def replaced(draw: st.DrawFn, valid: Any) -> Any:
    """Plain data with one value, at any depth, replaced by any other, left out, or given another key."""
    whole = copy.deepcopy(valid)
    block = whole
    for _ in range(draw(st.integers(0, 4))):
        inner = [value for value in _items(block).values() if isinstance(value, dict | list) and value]
        block = draw(st.sampled_from(inner)) if inner else block
    key = draw(st.sampled_from(sorted(_items(block), key=str)))
    how = draw(st.integers(0, 9))
    if how < 8:
        block[key] = draw(VALUES)
    else:
        value = block.pop(key)
        if how == 8 and isinstance(block, dict):
            block[draw(st.text(max_size=5))] = value
    return whole


def _items(block: Any) -> dict[Any, Any]:
    return dict(block) if isinstance(block, dict) else dict(enumerate(block))


def as_json(value: Any) -> bytes:
    """Plain data as JSON; what JSON cannot say, such as half a surrogate pair, is escaped."""
    return json.dumps(value).encode()


def refused(error: DrcliError) -> str:
    """The outcome of a refusal; its message must be lines that every terminal can show."""
    assert all(line.isprintable() for line in str(error).split("\n")), repr(str(error))
    return "refused"
