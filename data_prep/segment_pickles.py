"""Datasets of segments that come as one pickle of CMU's and MultiBench's layout, or of MMSA's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PositiveInt

from data_prep.base import DownloadPreparer, Filled
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.segments import (
    check_bad,
    sequence_shapes,
    size_note,
    skipped_lines,
    wordless,
    write_chosen,
)
from data_prep.sources.mosi_pickles import read_pickle
from data_prep.sources.mosi_segments import MODALITIES, Contents, Segment, check_contents
from data_prep.writing.provenance import content_digest
from drcli.data.target import Regression
from drcli.errors import DataError


class SegmentPickles(DownloadPreparer):
    """Makes `text`, `audio` and `visual`, each a sequence (L, D) with its length.

    Attributes:
        title: the dataset's name as people write it.
        files: names of the files in use, the preferred first, and whether each has MMSA's layout.
        published_sizes: segments of each split; empty: not known.
        bound: labels lie in [-bound, bound].
    """

    title: ClassVar[str]
    files: ClassVar[Mapping[str, bool]]
    published_sizes: ClassVar[Mapping[str, int]] = {}
    bound: ClassVar[float]

    class Settings(DownloadPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        max_length: PositiveInt = Field(
            50, le=1_000_000, description="number of words of a segment that are kept, from its beginning"
        )
        max_frames: PositiveInt | None = Field(
            None,
            le=1_000_000,
            description="number of audio and visual steps that are kept where they are not aligned with words; "
            "null: all",
        )

    settings: Settings

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""

    @property
    def regression(self) -> Regression | None:
        """Range of the labels where these are predicted themselves; None for classes."""
        return None

    @abstractmethod
    def class_of(self, segment: Segment) -> int | None:
        """The class of a segment, whose share the limit keeps; None leaves it out."""

    def wanted_file(self) -> str | None:
        """Name of the file that is read; None: the first of `files` that is there."""
        return None

    def video_of(self, name: str) -> str | None:
        """The video of a segment's name, which splits must not share; None: not known."""
        del name
        return None

    def corrected(self, contents: Contents, job: Job) -> Contents:
        """The contents without what is known to be wrong in the files; warns of it."""
        del job
        return contents

    def notes(self, contents: Contents, job: Job, path: Path) -> Iterable[str]:
        """Lines on how the file differs from the published one.

        Raises:
            DataError: it is another dataset.
        """
        del job
        return size_note(contents, self.published_sizes, self.title, str(path)) if self.published_sizes else []

    def fingerprint(self, source: Path) -> str:
        """SHA-256 of the pickle."""
        return content_digest(self._find(source))

    def fill(self, job: Job) -> Filled:
        """Read the pickle and write the three splits."""
        path = self._find(job.download)
        return self.fill_from(job, read_pickle(path, is_mmsa=self.files[path.name]), path, {"pickle": path.name})

    def fill_from(self, job: Job, read: Contents, path: Path, files: Mapping[str, str], **source: Any) -> Filled:
        """Label the segments that have words, and write the three splits.

        Args:
            job: the preparation.
            read: what was read.
            path: file or folder that it came from, for messages.
            files: names of the files by role.
            source: what else `dataset.json` says about the source.
        """
        contents = self.corrected(read, job)
        check_contents(contents, str(path), video=self.video_of, bound=self.bound)
        skipped = [*contents.skipped, *wordless(contents)]
        notes = [*contents.notes, *contents.repairs.messages(), *self.notes(contents, job, path)]
        for line in [*notes, *skipped_lines(skipped)]:
            job.warn(line)
        check_bad(contents, job.max_bad, str(path), exempt=self.exempt(contents))
        shapes = sequence_shapes(contents, self.settings.max_length, self.settings.max_frames)
        return Filled(
            write_chosen(job, self.name, self.classes, contents, self.class_of, shapes, self.regression),
            {
                "files": dict(files),
                "aligned": contents.is_aligned,
                "segments": {split: len(segments) for split, segments in contents.splits.items()},
                "cut": {m: sum(len(stream) > shapes[m][0] for stream in contents.streams(m)) for m in MODALITIES},
                "not_finite": contents.repairs.counts,
                "skipped": [asdict(segment) for segment in skipped],
                **source,
            },
        )

    def exempt(self, contents: Contents) -> Sequence[str]:
        """Ids of segments that are known to be missing from the files."""
        del contents
        return ()

    def _find(self, source: Path) -> Path:
        """The pickle, in the folder or at most two folders below.

        Raises:
            DataError: it is not there, or twice.
        """
        below = [path for path in find_files(source, {".pkl"}) if len(path.relative_to(source).parts) <= 3]
        wanted = self.wanted_file()
        for name in [wanted] if wanted else self.files:
            found = [path for path in below if path.name == name]
            if len(found) > 1:
                raise DataError(
                    f"{found[0]} and {found[1]} have the same name; name the folder of one of them with --source"
                )
            if found:
                return found[0]
        raise DataError(f"{source}: {self.title} is not here; expected {wanted or ' or '.join(self.files)}")


class YesNoPickles(SegmentPickles):
    """A dataset whose labels say whether something is so: 1, or 0 or -1 for no."""

    bound = 1.0

    def class_of(self, segment: Segment) -> int:
        """1 for a positive label."""
        return int(segment.sentiment > 0)

    def corrected(self, contents: Contents, job: Job) -> Contents:
        """The contents as they are, once all labels are 0 and 1, or -1 and 1.

        Raises:
            DataError: they are not.
        """
        found = {segment.sentiment for segments in contents.splits.values() for segment in segments}
        if not (found <= {0.0, 1.0} or found <= {-1.0, 1.0}):
            some = ", ".join(f"{label:g}" for label in sorted(found)[:5])
            raise DataError(f"{self._find(job.download)}: labels are {some}; expected 0 and 1, or -1 and 1")
        return contents
