"""Damage to valid files: what every fuzz module builds its inputs from."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

TOKENS = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b'""'),
    *(
        b"9" * 30,
        b"{",
        b"}",
        b"[" * 50,
        b"- " * 50,
        b"&a ",
        b"*a",
        b"!!python/name:os.system",
        b": ",
        b"\n",
        b"\x1b[31m",
    ),
    *(b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"a" * 300, b",", b"'", b"#"),
)
"""Pieces that readers have stumbled over."""


class SilentAcceptanceError(AssertionError):
    """A reader took a wrong file for a right one."""


@st.composite
def mutated(draw: st.DrawFn, valid: Sequence[bytes], most: int = 4) -> bytes:
    """One of the valid files after up to `most` changes: bytes altered, cut out, doubled, put in or cut off."""
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, most))):
        data = _changed(draw, data)
    return data


def _changed(draw: st.DrawFn, data: bytes) -> bytes:
    start = draw(st.integers(0, len(data)))
    stop = min(len(data), start + draw(st.integers(0, 40)))
    how = draw(st.sampled_from(("alter", "cut", "double", "put", "replace", "end")))
    if how == "alter":
        value = draw(st.integers(1, 255))
        return data[:start] + bytes(byte ^ value for byte in data[start : start + 1]) + data[start + 1 :]
    middle = {
        "cut": b"",
        "double": data[start:stop] * 2,
        "put": draw(st.sampled_from(TOKENS)) + data[start:stop],
        "replace": draw(st.sampled_from(TOKENS)),
        "end": b"",
    }[how]
    return data[:start] + middle + (b"" if how == "end" else data[stop:])
