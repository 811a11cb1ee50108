"""A resumable dataset of made-up clips, whose workers note every call."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep import base
from data_prep.base import Job, Preparer
from data_prep.media.container import ClipError
from data_prep.writing.clips import ArraySpec, Clip, Outcome, write_clips
from drcli.data.format import DatasetInfo
from drcli.errors import RunError

CLASSES = ("a", "b")
PATTERN = ("train", "train", "train", "val", "test")
EXEMPT = "c03"


@dataclass(frozen=True)
class Work:
    """Writes a clip's number; clips named in the file `broken` fail, those in `deadly` end their worker.

    In this process, a deadly clip raises an error that stops everything; those in `faulty` raise an IndexError.
    """

    folder: Path
    seconds: float = 0.0

    def __call__(self, clip: Clip) -> Outcome:
        with (self.folder / "calls").open("a") as stream:
            stream.write(f"{clip.id}\n")
        time.sleep(self.seconds)
        if clip.id in (self.folder / "broken").read_text().split():
            raise ClipError("corrupt", "torn")
        if clip.id in (self.folder / "deadly").read_text().split():
            if multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
            raise RunError("disk gone")
        if clip.id in (self.folder / "faulty").read_text().split():
            return Outcome({"audio": [1, 2][clip.label + 2]})
        value = np.full((2, 3), float(clip.id[1:]) + clip.label / 8, np.float32)
        findings = {"odd": 2} if clip.id in ("c01", "c08") else {}
        return Outcome({"audio": value}, bad_packets=int(clip.id == "c07"), findings=findings)


class Many(Preparer):
    """As many clips as the file `count` of its source says."""

    name = "many"
    needs_source = True
    resumable = True

    class Settings(Preparer.Settings):
        """One, so that it can differ."""

        seed: int = 0

    def fingerprint(self, _source: Path | None, /) -> str:
        return "0" * 64

    def prepare(self, job: Job) -> DatasetInfo:
        assert job.source is not None
        count = int((job.source / "count").read_text())
        clips = [Clip(f"c{i:02d}", i // 5 % 2, PATTERN[i % 5]) for i in range(count)]
        work = Work(job.source, float((job.source / "seconds").read_text()))
        specs = {"audio": ArraySpec((2, 3), "float32")}
        writer, report = write_clips(job, clips, work, specs, name="many", classes=CLASSES, exempt={EXEMPT})
        source = {"fingerprint": job.fingerprint, "limit": job.limit, **report.source()}
        return writer.finish(settings=self.settings.model_dump(mode="json"), source=source)


@dataclass(frozen=True)
class Source:
    """The folder that stands for the download."""

    folder: Path

    def prepare(self, out: Path, *, seed: int = 0, **options: Any) -> DatasetInfo:
        return base.run("many", Many.Settings(seed=seed), source=self.folder, out=out, **options)

    def calls(self) -> list[str]:
        """Ids of all clips that were worked on, in order; emptied by reading."""
        path = self.folder / "calls"
        names = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return names


def make_source(
    folder: Path, *, count: int = 20, broken: str = "", deadly: str = "", faulty: str = "", seconds: float = 0.0
) -> Source:
    """Write, or change, the source."""
    folder.mkdir(exist_ok=True)
    files = {"count": count, "broken": broken, "deadly": deadly, "faulty": faulty, "seconds": seconds}
    for name, text in files.items():
        (folder / name).write_text(str(text))
    return Source(folder)
