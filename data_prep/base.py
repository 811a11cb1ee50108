"""What the preparation of a dataset must offer, with a download or without, and how it is run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from data_prep.job import Job, ignore
from data_prep.writing.publish import disk_errors, existing, identity, is_occupied, partial_folder, publish
from data_prep.writing.resume import remove_published, resumable_folder
from data_prep.writing.writer import DatasetWriter
from drcli.data.format import DatasetInfo, has_old_pictures, prepare_command, warning_of_old_pictures
from drcli.errors import DataError, UsageError
from drcli.task import TaskName

__all__ = ["DownloadPreparer", "EmbeddedPreparer", "Filled", "Job", "Preparer", "ignore"]


@dataclass(frozen=True)
class Filled:
    """A dataset that lacks only its `dataset.json`.

    Attributes:
        writer: has written every split.
        source: what `dataset.json` says about the source besides its fingerprint and the limit.
    """

    writer: DatasetWriter
    source: Mapping[str, Any]


class Preparer(ABC):
    """Makes a prepared dataset; derive from `EmbeddedPreparer` or `DownloadPreparer`.

    Attributes:
        name: the dataset's name in the registry.
        needs_source: whether there is a download to read.
        waveform: modality whose sound takes the noise of a recipe's `corrupt`, by the settings
            `waveform_snr_db` and `waveform_noise_splits`; None where there is none.
        resumable: whether `fill` keeps in `Job.scratch` what it needs to resume after a kill.
    """

    name: ClassVar[str]
    needs_source: ClassVar[bool]
    resumable: ClassVar[bool] = False
    waveform: ClassVar[str | None] = None

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe's `dataset.prepare` block."""

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def task(cls, settings: Any) -> TaskName:
        """Return whether rows get a class or a real value under these settings; a recipe must ask for the same."""
        del settings
        return "classification"

    @abstractmethod
    def fill(self, job: Job) -> Filled:
        """Fill `job.out` by means of a `DatasetWriter`.

        Raises:
            DataError: the source is not as expected; the message names the file.
        """

    @abstractmethod
    def _digest(self, source: Path | None) -> str:
        """Digest of everything that is read, once the source is known to be as it must.

        Raises:
            UsageError: a source is given where none is needed, or the reverse.
            DataError: the folder or files in it are missing.
        """

    def run(  # noqa: PLR0913 - one keyword for each option of the command line
        self,
        *,
        source: Path | None,
        out: Path,
        workers: int = 1,
        limit: int | None = None,
        fresh: bool = False,
        max_bad: float = 0.01,
        origin: Mapping[str, Any] | None = None,
        progress: Callable[[str, int, int], None] = ignore,
        warn: Callable[[str], None] = ignore,
        note: Callable[[str], None] = ignore,
    ) -> DatasetInfo:
        """Prepare the dataset into `out`, or return the one that is there if it is the requested one.

        Args:
            source: folder of the download; None for an embedded dataset.
            out: folder of the prepared dataset; appears when it is complete.
            workers: how many processes may decode at a time.
            limit: maximum number of samples over all splits, stratified by class.
            fresh: replace a dataset that is there.
            max_bad: share of the clips that may be skipped, in [0, 1].
            origin: what `dataset.json` says about where the folder was fetched from, besides what is in it.
            progress: called with (stage, done, total).
            warn: called with one line that the user should see.
            note: called with one line of what is going to happen.

        Raises:
            UsageError: no source given, `out` not writable, or something else is there.
            DataError: the source is missing or damaged; `out` holds another dataset, or a damaged one.
            RunError: the disk is full.
        """
        if limit is not None and limit < 1:
            raise UsageError(f"--limit is {limit}; it must be at least 1")
        job = Job(source, out.resolve(), "", workers, limit, progress, warn, note, max_bad)  # a link stays a link
        job = replace(job, fingerprint=self._digest(source))
        with disk_errors(job.out):
            if is_occupied(job.out) and not fresh:
                info = self._existing(job)
                remove_published(job.out)
                return info
            return self._prepare(job, origin or {}, fresh=fresh)

    def _prepare(self, job: Job, origin: Mapping[str, Any], *, fresh: bool) -> DatasetInfo:
        """Fill a folder beside `job.out` and rename it."""
        out = job.out
        folder = resumable_folder(out, self._identity(job), job.warn) if self.resumable else partial_folder(out)
        with folder as (partial, scratch):
            filled = self.fill(replace(job, out=partial, scratch=scratch))
            source = {"fingerprint": job.fingerprint, "limit": job.limit, **filled.source, **origin}
            info = filled.writer.finish(settings=self._plain_settings(), source=source)
            return info if publish(partial, out, fresh=fresh) else self._existing(job)

    def _existing(self, job: Job) -> DatasetInfo:
        remedy = prepare_command(self.name, job.out, needs_source=self.needs_source, fresh=True)
        info = existing(job.out, self._identity(job), remedy, default_settings(type(self)))
        if has_old_pictures(info):
            job.warn(warning_of_old_pictures(job.out, remedy))
        return info

    def _identity(self, job: Job) -> dict[str, Any]:
        return identity(self.name, self._plain_settings(), {"fingerprint": job.fingerprint, "limit": job.limit})

    def _plain_settings(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json")


def default_settings(preparer: type[Preparer]) -> dict[str, Any]:
    """The settings of a dataset that nobody has changed, as plain data."""
    return preparer.Settings.model_construct().model_dump(mode="json", by_alias=True)


class EmbeddedPreparer(Preparer):
    """Makes a dataset that takes no download: `train` prepares it by itself."""

    needs_source = False

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of what the arrays are made from: equal digests and settings give equal datasets."""

    def _digest(self, source: Path | None) -> str:
        if source is not None:
            raise UsageError(f"dataset {self.name!r} needs no download: leave out --source {source}")
        return self.fingerprint()


class DownloadPreparer(Preparer):
    """Makes a dataset from a download, the folder `Job.download`."""

    needs_source = True

    @abstractmethod
    def fingerprint(self, source: Path) -> str:
        """Digest of everything that is read: equal digests and settings give equal datasets.

        Raises:
            DataError: files are missing from the source.
        """

    def _digest(self, source: Path | None) -> str:
        if source is None:
            raise UsageError(f"dataset {self.name!r} is made from a download: name its folder with --source DIR")
        if not source.is_dir():
            raise DataError(f"{source}: no such folder; --source must name the folder of the download")
        return self.fingerprint(source)
