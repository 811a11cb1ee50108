"""What one preparation is given: source, destination, limits, and where progress and warnings go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def ignore(*_: object) -> None:
    """Take a progress report or a warning and do nothing."""


@dataclass(frozen=True)
class Job:
    """One preparation.

    Attributes:
        source: folder of the official download; None for an embedded dataset.
        out: an existing empty folder to fill.
        fingerprint: digest of the source, as the preparer's `fingerprint` gave it.
        workers: how many processes may decode at a time.
        limit: maximum number of samples over all splits; None takes everything.
        progress: called with (stage, done, total).
        warn: called with one line that the user should see.
        note: called with one line of what is going to happen.
        max_bad: share of the clips that may be skipped, in [0, 1].
        scratch: a folder that survives a kill and is there again when the command is repeated; None
            unless the preparer is `resumable`.
    """

    source: Path | None
    out: Path
    fingerprint: str = ""
    workers: int = 1
    limit: int | None = None
    progress: Callable[[str, int, int], None] = ignore
    warn: Callable[[str], None] = ignore
    note: Callable[[str], None] = ignore
    max_bad: float = 0.01
    scratch: Path | None = None

    @property
    def download(self) -> Path:
        """The folder of the download, for a preparer that is made from one."""
        assert self.source is not None, "only a DownloadPreparer has a download"
        return self.source
