"""cmu_mosi: opinions in video, as sequences of text, audio and visual features (Zadeh et al. 2016).

The features come from one of the files in use: the pickles of CMU and MultiBench, those of MMSA, or the
.csd files of the CMU SDK. Each has its own features, so that results compare only between equal files:
`dataset.json` names the one that was read. The utterances of bc-LSTM, one vector per modality, have videos of
their own in each split.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from data_prep.base import DownloadPreparer, Filled
from data_prep.job import Job
from data_prep.segments import (
    Shapes,
    check_bad,
    range_of,
    sequence_shapes,
    size_note,
    skipped_lines,
    task_of,
    wordless,
    write_chosen,
)
from data_prep.sources.mosi_csd import INCOMPLETE, read_csd
from data_prep.sources.mosi_files import MMSA_SHA256, Download, FileName, find_download
from data_prep.sources.mosi_folds import fold_of
from data_prep.sources.mosi_pickles import read_pickle
from data_prep.sources.mosi_segments import MODALITIES, Contents, Segment, check_contents, video_of
from data_prep.sources.mosi_tfidf import with_tfidf
from data_prep.sources.mosi_utterances import WHY_OWN_FOLDS, read_utterances
from data_prep.writing.provenance import content_digest
from data_prep.writing.writer import DatasetWriter
from drcli.amounts import counted
from drcli.errors import DataError, UsageError
from drcli.task import TaskName

PUBLISHED_SIZES = {"train": 1284, "val": 229, "test": 686}

CLASSES = {
    "nonneg": ("negative", "non-negative"),
    "pos": ("negative", "positive"),
    "seven": ("-3", "-2", "-1", "0", "1", "2", "3"),
    "score": ("score",),
}


class CmuMosi(DownloadPreparer):
    """Opinion segments, modalities `text`, `audio` and `visual`, each a sequence (L, D) with its length, or (D,)."""

    name = "cmu_mosi"

    class Settings(DownloadPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        target: Literal["nonneg", "pos", "seven", "score"] = Field(
            "nonneg",
            description="classes; nonneg: negative and non-negative; pos: negative and positive, without zeros; "
            "seven: -3 to 3, rounded; score: no classes but the real value, which takes task: regression",
        )
        file: FileName | None = Field(
            None, description="file of the source that is read; null: the first of them that is found"
        )
        max_length: PositiveInt = Field(
            50, le=1_000_000, description="number of words of a segment that are kept, from its beginning"
        )
        folds: Literal["standard", "own"] | None = Field(
            None,
            description="videos of each split; standard: the CMU SDK's; own: bc-LSTM's train part, val and test drawn "
            "from its other videos; null: own for bc-LSTM, standard for the other files",
        )
        text: Literal["shipped", "tfidf"] = Field(
            "shipped",
            description="text of bc-LSTM; shipped: its vectors, which know the labels of train; tfidf: TF-IDF of the "
            "transcripts, reduced, fitted on train alone",
        )
        tfidf_dims: PositiveInt = Field(
            100, le=10_000, description="numbers that text: tfidf is reduced to, by a truncated SVD"
        )
        val_videos: PositiveInt = Field(
            11, le=92, description="videos of bc-LSTM outside train that become val; the others are test"
        )
        seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of the choice of these videos")
        max_frames: PositiveInt | None = Field(
            None,
            le=1_000_000,
            description="number of audio and visual steps that are kept where they are not aligned with words; "
            "null: all",
        )

        @model_validator(mode="after")
        def _fit_the_file(self) -> Self:
            problem = None if self.file is None else _misfit(self, self.file)
            if problem is not None:
                raise ValueError(problem)
            return self

    settings: Settings

    @classmethod
    def task(cls, settings: Settings) -> TaskName:
        """Return what the target makes of it."""
        return task_of(settings.target)

    def fingerprint(self, source: Path) -> str:
        """SHA-256 of the pickle, or over those of the .csd files by role."""
        paths = find_download(source, self.settings.file).paths
        digests = {role: content_digest(path) for role, path in sorted(paths.items())}
        if "pickle" in digests:
            return digests["pickle"]
        return hashlib.sha256("".join(f"{role} {digest}\n" for role, digest in digests.items()).encode()).hexdigest()

    def fill(self, job: Job) -> Filled:
        """Read all segments, label those that have words, and write the three splits."""
        download = find_download(job.download, self.settings.file)
        problem = _misfit(self.settings, download.name)
        if problem is not None:
            raise UsageError(f"{download.where}: dataset.prepare: {problem}")
        if download.name == "bc-LSTM":
            return self._fill_utterances(job, download)
        contents = _read(download, job)
        check_contents(contents, str(download.where))
        skipped = [*contents.skipped, *wordless(contents)]
        for line in [*_notes(download, contents, job.fingerprint), *skipped_lines(skipped)]:
            job.warn(line)
        exempt = [segment.id for segment in contents.skipped if video_of(segment.id) in INCOMPLETE]
        check_bad(contents, job.max_bad, str(download.where), exempt=exempt)
        shapes = sequence_shapes(contents, self.settings.max_length, self.settings.max_frames)
        source = {
            **_provenance(download),
            "aligned": contents.is_aligned,
            "segments": {split: len(segments) for split, segments in contents.splits.items()},
            "neutral": {split: _num_neutral(segments) for split, segments in contents.splits.items()},
            "cut": {m: sum(len(stream) > shapes[m][0] for stream in contents.streams(m)) for m in MODALITIES},
            "not_finite": contents.repairs.counts,
            "skipped": [asdict(segment) for segment in skipped],
        }
        return Filled(self._write(job, contents, shapes), source)

    def _fill_utterances(self, job: Job, download: Download) -> Filled:
        """Write the utterances of bc-LSTM, each modality a vector (D,)."""
        chosen = self.settings
        found = read_utterances(download.paths, val_videos=chosen.val_videos, seed=chosen.seed)
        contents = with_tfidf(found.contents, chosen.tfidf_dims) if chosen.text == "tfidf" else found.contents
        check_contents(contents, str(download.where))
        if chosen.target != "nonneg" and not found.has_scores:
            raise DataError(
                f"{download.where}: dataset.prepare.target = {chosen.target} needs the scores; put the CMU SDK's "
                "CMU_MOSI_Opinion_Labels.csd beside the folder, and give the folder of both with --source"
            )
        for line in [*found.notes(), *contents.repairs.messages()]:
            job.warn(line)
        shapes = {m: (next(contents.streams(m)).shape[1],) for m in MODALITIES}
        source = {
            "files": {role: path.name for role, path in download.paths.items()},
            "decoders": {"scikit-learn": version("scikit-learn")} if chosen.text == "tfidf" else {},
            "segments": {split: len(segments) for split, segments in contents.splits.items()},
            "not_finite": contents.repairs.counts,
            **found.source(),
        }
        return Filled(self._write(job, contents, shapes), source)

    def _write(self, job: Job, contents: Contents, shapes: Shapes) -> DatasetWriter:
        """Write the splits. The limit keeps the shares of the classes; of the seven, where scores are wanted."""
        target = self.settings.target
        kept_by = "seven" if target == "score" else target

        def of(segment: Segment) -> int | None:
            return class_of(segment.sentiment, kept_by)

        return write_chosen(job, self.name, CLASSES[target], contents, of, shapes, range_of(target))


def class_of(sentiment: float, target: str) -> int | None:
    """The class index of a sentiment in [-3, 3]; None where the target has no class for it.

    Args:
        sentiment: mean of the annotators.
        target: "nonneg" (0 is not negative), "pos" (0 is left out) or "seven" (rounded half to even,
            as the literature's numpy does).
    """
    if target == "seven":
        return int(np.round(sentiment)) + 3
    if target == "pos" and sentiment == 0:
        return None
    return int(sentiment >= 0)


def _misfit(settings: CmuMosi.Settings, file: FileName) -> str | None:
    """Return what the settings ask of a file that it cannot give; None where they fit."""
    if file == "bc-LSTM":
        return f"folds: standard is refused for bc-LSTM: {WHY_OWN_FOLDS}" if settings.folds == "standard" else None
    if settings.folds == "own":
        return f"folds: own is bc-LSTM's, {file} has the standard ones"
    return f"text: tfidf needs the transcripts of bc-LSTM, {file} has none" if settings.text == "tfidf" else None


def _read(download: Download, job: Job) -> Contents:
    if download.name == "csd":
        return read_csd(download.paths, lambda done, total: job.progress("cmu_mosi: videos", done, total))
    return read_pickle(download.paths["pickle"], is_mmsa=download.name in MMSA_SHA256)


def _provenance(download: Download) -> dict[str, Any]:
    """Names of the files and what read them; a pickle's SHA-256 is the fingerprint."""
    return {
        "files": {role: path.name for role, path in download.paths.items()},
        "published_sha256": MMSA_SHA256.get(download.name),
        "decoders": {"h5py": version("h5py")} if download.name == "csd" else {},
    }


def _num_neutral(segments: Sequence[Segment]) -> int:
    """How many opinions are 0: those that the target "pos" leaves out."""
    return sum(segment.sentiment == 0 for segment in segments)


def _notes(download: Download, contents: Contents, fingerprint: str) -> list[str]:
    """Lines that say how the files differ from the published ones, and which values were replaced."""
    lines = [*contents.notes, *contents.repairs.messages()]
    if MMSA_SHA256.get(download.name, fingerprint) != fingerprint:
        lines.append(f"{download.where}: its SHA-256 is not the one that MMSA published; it is another version")
    lines += size_note(contents, PUBLISHED_SIZES, "CMU-MOSI", str(download.where))
    moved = [
        segment.id
        for split, segments in contents.splits.items()
        for segment in segments
        if fold_of(video_of(segment.id) or "") != split
    ]
    if moved:
        lines.append(
            f"{counted(len(moved), 'segment')}, {moved[0]} first, in another split than the standard folds have"
        )
    return lines
