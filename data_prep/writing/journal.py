"""Which clips are done: a file that only grows, so that a killed preparation can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from drcli.reading import parse_json


@dataclass(frozen=True)
class Entry:
    """What became of one clip.

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
    """Entries on disk, one line each, after a line that says what they belong to.

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
        text = "".join(json.dumps(asdict(entry)) + "\n" for entry in entries).encode()
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
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return 0, {}
        whole = content[: content.rfind(b"\n") + 1]
        if not whole.startswith(self._head.encode()):
            return 0, {}
        lines = whole.decode().splitlines()[1:]
        try:
            entries = [Entry(**parse_json(line)) for line in lines]
        except (ValueError, TypeError):
            return 0, {}
        return len(whole), {entry.id: entry for entry in entries}
