"""Which clips are done: a file that only grows, so that a killed preparation can be resumed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from drcli.reading import parse_json

_CHECKSUM = "crc32"


@dataclass(frozen=True)
class Entry:
    """The outcome of one clip.

    Attributes:
        id: of the clip.
        bad_packets: that did not decode, of a clip that was stored.
        reason: why it was skipped, one of `data_prep.media.container.REASONS`; empty: it was stored.
        detail: of the reason.
        findings: see `data_prep.writing.workers.Outcome`.
    """

    id: str
    bad_packets: int = 0
    reason: str = ""
    detail: str = ""
    findings: Mapping[str, int] = field(default_factory=dict)


class Journal:
    """Entries on disk, one line each with its checksum, after a line that says what they belong to.

    Args:
        path: the file; one that belongs to something else, or is damaged, counts as empty.
        belongs_to: digest of the work.
    """

    def __init__(self, path: Path, belongs_to: str) -> None:
        self._path = path
        self._head = json.dumps({"belongs_to": belongs_to}) + "\n"
        self._length, self.entries = self._read()

    def start(self) -> None:
        """Begin anew, without entries."""
        self._path.write_text(self._head, encoding="utf-8")
        self._length, self.entries = len(self._head), {}

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries and force them to the disk."""
        text = "".join(_line(asdict(entry)) for entry in entries).encode()
        with self._path.open("r+b") as stream:
            stream.truncate(self._length)  # drops a line that a kill cut off
            stream.seek(self._length)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        self._length += len(text)
        self.entries.update({entry.id: entry for entry in entries})

    def _read(self) -> tuple[int, dict[str, Entry]]:
        """Length of what is whole, and the entries by id; later ones replace earlier ones."""
        content = self._path.read_bytes() if self._path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole.startswith(self._head.encode()):
            return 0, {}
        try:
            entries = [_parse(line) for line in whole.split(b"\n")[1:-1]]
        except (ValueError, TypeError, RecursionError):
            return 0, {}
        return len(whole), {entry.id: entry for entry in entries}


def _line(values: Mapping[str, Any]) -> str:
    return json.dumps({**values, _CHECKSUM: _checksum(values)}) + "\n"


def _checksum(values: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def _parse(line: bytes) -> Entry:
    """One entry.

    Raises:
        ValueError: it is not JSON in UTF-8, not what was written, or not an entry with values of the right types.
        TypeError: it has other fields.
    """
    found = parse_json(line.decode())
    if not isinstance(found, dict) or found.pop(_CHECKSUM, None) != _checksum(found):
        raise ValueError(f"not what was written: {line[:80]!r}")
    entry, blank = Entry(**found), Entry("")
    names = [one.name for one in fields(Entry)]
    if any(type(getattr(entry, name)) is not type(getattr(blank, name)) for name in names) or entry.bad_packets < 0:
        raise ValueError(f"not an entry: {entry}")
    return entry
