"""Walks through RIFF files, which WAV and AVI are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MAX_CHUNKS = 1000
_MAX_INDEX = 2**26  # bytes; four million chunks
_ENTRY = 16  # bytes


def chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Name, beginning and size of each chunk of a RIFF file; the stream is left at its beginning."""
    place = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        yield head[:4], place + 8, size
        place += 8 + size + size % 2


def is_cut(path: Path) -> bool:
    """Whether a RIFF file is shorter than its first eight bytes say."""
    with path.open("rb") as stream:
        head = stream.read(8)
        return 8 + int.from_bytes(head[4:], "little") > os.fstat(stream.fileno()).st_size


def indexed_pictures(path: Path, stream_index: int) -> int:
    """How many chunks the index of an AVI file lists of a video stream, empty ones left out; 0 without index."""
    begin = f"{stream_index:02d}d".encode()
    with path.open("rb") as stream:
        for name, _, size in chunks(stream):
            if name == b"idx1":
                entries = stream.read(min(size, _MAX_INDEX))
                starts = range(0, len(entries) - _ENTRY + 1, _ENTRY)
                return sum(entries[at : at + 3] == begin and any(entries[at + 12 : at + _ENTRY]) for at in starts)
    return 0
