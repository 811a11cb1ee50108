"""cmu_mosei: opinions in video, ten times CMU-MOSI (Zadeh et al. 2018), as sequences of text, audio and face.

The features come from one of the files in use: the pickles of MultiBench and MulT, those of MMSA, or the .csd files
of the CMU SDK, which need the SDK's file of folds beside them. Pickles have the folds in them; with that file beside
them, they are compared. Some ids of videos are numbers. A pickle has several GB, and is read where it lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from data_prep.base import Filled
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.segment_pickles import SegmentPickles
from data_prep.segments import range_of, task_of
from data_prep.sources.mosei_folds import FOLDS_FILE, Folds, mosei_video, read_folds
from data_prep.sources.mosi_csd import NO_FOLD, ROLES, choose_files, read_csd
from data_prep.sources.mosi_files import MMSA_SHA256 as MOSI_SHA256
from data_prep.sources.mosi_segments import Contents, Segment
from data_prep.writing.provenance import content_digest
from drcli.amounts import counted
from drcli.data.target import Regression
from drcli.errors import DataError
from drcli.task import TaskName

MMSA_SHA256 = {
    "aligned_50.pkl": "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791",
    "unaligned_50.pkl": "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f",
}
MOSEI_ROLES = {**ROLES, "labels": ("Labels", "All_Labels", "LabelsSentiment")}
PREFIX = "CMU_MOSEI_"
CLASSES = {
    "nonneg": ("negative", "non-negative"),
    "pos": ("negative", "positive"),
    "seven_round": ("-3", "-2", "-1", "0", "1", "2", "3"),
    "seven_bins": ("below -2", "-2 to -1", "-1 to 0", "0", "0 to 1", "1 to 2", "above 2"),
    "score": ("score",),
}


class CmuMosei(SegmentPickles):
    """Opinion segments, modalities `text`, `audio` and `visual`, each a sequence (L, D) with its length."""

    name = "cmu_mosei"
    title = "CMU-MOSEI"
    files: ClassVar = {
        "mosei_senti_data.pkl": False,
        "mosei_senti_data_noalign.pkl": False,
        "mosei_raw.pkl": False,
        "aligned_50.pkl": True,
        "unaligned_50.pkl": True,
    }
    published_sizes: ClassVar = {"train": 16327, "val": 1871, "test": 4662}
    bound = 3.0

    class Settings(SegmentPickles.Settings):
        """The recipe's `dataset.prepare` block."""

        target: Literal["nonneg", "pos", "seven_round", "seven_bins", "score"] = Field(
            "nonneg",
            description="classes; nonneg: negative and non-negative; pos: negative and positive, without zeros; "
            "seven_round: -3 to 3, rounded, as MMSA has it; seven_bins: below -2, -2 to -1, -1 to 0, 0, 0 to 1, 1 to "
            "2, above 2, as the SDK has it; score: no classes but the real value, which takes task: regression",
        )
        file: (
            Literal[
                "mosei_senti_data.pkl",
                "mosei_senti_data_noalign.pkl",
                "mosei_raw.pkl",
                "aligned_50.pkl",
                "unaligned_50.pkl",
                "csd",
            ]
            | None
        ) = Field(None, description="file of the source that is read; null: the first of them that is found")

    settings: Settings

    @classmethod
    def task(cls, settings: Settings) -> TaskName:
        """Return what the target makes of it."""
        return task_of(settings.target)

    @property
    def regression(self) -> Regression | None:
        """Range of the scores, where they are the target."""
        return range_of(self.settings.target)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return CLASSES[self.settings.target]

    def class_of(self, segment: Segment) -> int | None:
        """The class of a segment, of a score the rounded one; None for a neutral one where there is no class for it."""
        target = self.settings.target
        return class_of(segment.sentiment, "seven_round" if target == "score" else target)

    def wanted_file(self) -> str | None:
        """Name of the pickle that is read."""
        return self.settings.file

    def video_of(self, name: str) -> str | None:
        """The video of a segment's name."""
        return mosei_video(name)

    def fingerprint(self, source: Path) -> str:
        """SHA-256 of the pickle, or over those of the .csd files and the folds."""
        csd = self._csd(source)
        if not csd:
            return super().fingerprint(source)
        paths = {**choose_files(csd, roles=MOSEI_ROLES, prefix=PREFIX), "folds": _folds_file(source, is_needed=True)}
        lines = [f"{role} {content_digest(path)}\n" for role, path in sorted(paths.items()) if path]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def fill(self, job: Job) -> Filled:
        """Read the segments and write the three splits."""
        csd = self._csd(job.download)
        if not csd:
            return super().fill(job)
        folds_file = _folds_file(job.download, is_needed=True)
        assert folds_file is not None
        folds = read_folds(folds_file)
        paths = choose_files(csd, roles=MOSEI_ROLES, prefix=PREFIX)
        contents = read_csd(
            paths,
            lambda done, total: job.progress("cmu_mosei: videos", done, total),
            fold=lambda video: _home(folds, video),
            skips_foldless=True,
        )
        names = {role: path.name for role, path in {**paths, "folds": folds_file}.items()}
        return self.fill_from(job, contents, csd[0].parent, names, decoders={"h5py": version("h5py")})

    def corrected(self, contents: Contents, job: Job) -> Contents:
        """Sentiments outside [-3, 3], which early files have four of, set to the nearest end."""
        over = [s.id for part in contents.splits.values() for s in part if 3 < abs(s.sentiment) < np.inf]
        if not over:
            return contents
        number = counted(len(over), "segment")
        job.warn(f"{number}, {over[0]} first, with a sentiment outside [-3, 3]; set to the nearest end")
        splits = {
            split: [replace(s, sentiment=float(np.clip(s.sentiment, -3, 3))) for s in part]
            for split, part in contents.splits.items()
        }
        return replace(contents, splits=splits)

    def notes(self, contents: Contents, job: Job, path: Path) -> Iterable[str]:
        """Lines on other sizes, versions and folds than the published ones."""
        if job.fingerprint in MOSI_SHA256.values():
            raise DataError(f"{path}: is CMU-MOSI's, not CMU-MOSEI's; prepare it as cmu_mosi")
        yield from super().notes(contents, job, path)
        if MMSA_SHA256.get(path.name, job.fingerprint) != job.fingerprint:
            yield f"{path}: its SHA-256 is not the one that MMSA published; it is another version"
        folds_file = _folds_file(job.download, is_needed=False)
        moved = _moved(contents, read_folds(folds_file)) if folds_file else []
        if moved:
            yield f"{counted(len(moved), 'segment')}, {moved[0]} first, in another split than the standard folds have"

    def exempt(self, contents: Contents) -> Sequence[str]:
        """The segments of the 68 videos that are in no fold."""
        return [segment.id for segment in contents.skipped if segment.reason == NO_FOLD]

    def _csd(self, source: Path) -> list[Path]:
        """The .csd files, where they are what is read."""
        if self.settings.file not in {None, "csd"}:
            return []
        found = sorted(path for path in find_files(source, {".csd"}) if len(path.relative_to(source).parts) <= 3)
        if self.settings.file == "csd" and not found:
            raise DataError(f"{source}: {self.title} is not here; expected {PREFIX}*.csd")
        has_pickle = any(path.name in self.files for path in find_files(source, {".pkl"}))
        return [] if self.settings.file is None and has_pickle else found


def class_of(sentiment: float, target: str) -> int | None:
    """The class index of a sentiment in [-3, 3]; None where the target has no class for it.

    Args:
        sentiment: mean of the annotators.
        target: a key of `CLASSES`. seven_round rounds half to even; seven_bins are [-3, -2), [-2, -1), [-1, 0), 0,
            (0, 1], (1, 2], (2, 3].
    """
    if target == "seven_round":
        return int(np.round(sentiment)) + 3
    if target == "seven_bins":
        return int(np.searchsorted([-2, -1, 0], sentiment, "right") + np.searchsorted([0, 1, 2], sentiment, "left"))
    if target == "pos" and sentiment == 0:
        return None
    return int(sentiment >= 0)


def _home(folds: Folds, video: str) -> str | None:
    return next((split for split, videos in folds.items() if video in videos), None)


def _moved(contents: Contents, folds: Folds) -> list[str]:
    return [
        segment.id
        for split, segments in contents.splits.items()
        for segment in segments
        if _home(folds, mosei_video(segment.id) or "") != split
    ]


def _folds_file(source: Path, *, is_needed: bool) -> Path | None:
    """The SDK's file of folds, in the folder or below."""
    found = next((path for path in find_files(source, {".py"}) if path.name == FOLDS_FILE), None)
    if found is None and is_needed:
        raise DataError(f"{source}: {FOLDS_FILE} is missing; get it from the CMU SDK (mmsdk/mmdatasdk/dataset)")
    return found
