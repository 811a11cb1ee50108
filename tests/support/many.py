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

from data_prep.clip_preparer import Chosen, ClipPreparer
from data_prep.job import Job
from data_prep.media.container import ClipError
from data_prep.writing.clips import ArraySpec, Clip, Outcome, Report
from data_prep.writing.shards import Shard
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
            return Outcome({"audio": [np.zeros(1)][clip.label + 2]})
        value = np.full((1, 2, 3), float(clip.id[1:]) + clip.label / 8, np.float32)
        findings = {"odd": 2} if clip.id in ("c01", "c08") else {}
        return Outcome({"audio": value}, bad_packets=int(clip.id == "c07"), findings=findings)


class Many(ClipPreparer):
    """As many clips as the file `count` of its source says."""

    name = "many"

    class Settings(ClipPreparer.Settings):
        """One, so that it can differ."""

        seed: int = 0

    def fingerprint(self, source: Path) -> str:
        self._source = source
        return "0" * 64

    def choose(self, job: Job) -> Chosen:
        count = int((job.download / "count").read_text())
        clips = [Clip(f"c{i:02d}", i // 5 % 2, PATTERN[i % 5]) for i in range(count)]
        return Chosen(clips, CLASSES, {}, exempt={EXEMPT})

    def work(self) -> Work:
        return Work(self._source, float((self._source / "seconds").read_text()))

    def specs(self) -> dict[str, ArraySpec]:
        return {"audio": ArraySpec((1, 2, 3), "float32")}


@dataclass(frozen=True)
class Source:
    """The folder that stands for the download."""

    folder: Path

    def prepare(self, out: Path, *, seed: int = 0, **options: Any) -> DatasetInfo:
        return Many(Many.Settings(seed=seed)).run(source=self.folder, out=out, **options)

    def shard(self, out: Path, part: str, *, seed: int = 0, **options: Any) -> Report:
        """Prepare one part of the clips."""
        job = Job(self.folder, out.resolve(), **options)
        return Many(Many.Settings(seed=seed)).fill_shard(job, Shard.parse(part))

    def halves(self, out: Path) -> Path:
        """Prepare both halves of the clips; returns the folder of the second."""
        for part in ("1/2", "2/2"):
            self.shard(out, part)
        return Shard(2, 2).folder(out)

    def merge(self, out: Path, *, seed: int = 0, **options: Any) -> DatasetInfo:
        """Join all parts and finish."""
        Many(Many.Settings(seed=seed)).join(Job(self.folder, out.resolve()))
        return self.prepare(out, seed=seed, **options)

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
