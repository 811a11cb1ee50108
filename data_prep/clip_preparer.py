"""Datasets of clips: workers, resuming, skipped clips and their provenance are the same for all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from data_prep.base import DownloadPreparer, Filled
from data_prep.job import Job, ignore
from data_prep.writing.clips import ArraySpec, Clip, Report, Work, plan_of, work_clips, write_clips
from data_prep.writing.provenance import decoders
from data_prep.writing.publish import disk_errors
from data_prep.writing.resume import identity_text, kept_folder, scratch_of
from data_prep.writing.shards import Shard, join_shards
from data_prep.writing.writer import DatasetWriter


@dataclass(frozen=True)
class Chosen:
    """The clips that are to be prepared.

    Attributes:
        clips: in the order of their rows.
        classes: class names in index order.
        source: what `dataset.json` says about the source, besides the clips and the decoders.
        exempt: ids of clips that are known to be broken: they do not count against `--max-bad`.
    """

    clips: Sequence[Clip]
    classes: tuple[str, ...]
    source: Mapping[str, Any]
    exempt: Collection[str] = ()


class ClipPreparer(DownloadPreparer):
    """Makes a dataset of clips that are decoded one by one; a killed preparation is resumed."""

    resumable = True

    @abstractmethod
    def choose(self, job: Job) -> Chosen:
        """Find the clips of `job.download`; warns of what is missing.

        Raises:
            DataError: a split would be empty, or a class absent from train.
        """

    @abstractmethod
    def work(self) -> Work:
        """What makes the rows of a clip."""

    @abstractmethod
    def specs(self) -> Mapping[str, ArraySpec]:
        """What is stored, by modality."""

    def versions(self) -> dict[str, str]:
        """Versions of the packages that decode.

        Raises:
            DrcliError: one is not installed.
        """
        return decoders()

    def fill(self, job: Job) -> Filled:
        """Decode the chosen clips and write the three splits."""
        versions = self.versions()
        chosen = self.choose(job)
        writer, report = write_clips(
            job,
            chosen.clips,
            self.work(),
            self.specs(),
            name=self.name,
            classes=chosen.classes,
            exempt=chosen.exempt,
        )
        more = self.complete(job, writer, chosen)
        return Filled(writer, {**chosen.source, "decoders": versions, **report.source(), **more})

    def fill_shard(self, job: Job, shard: Shard) -> Report:
        """Decode the clips of one shard into a folder beside `job.out`, which `join` reads.

        Args:
            job: source, destination and limits; the fingerprint is taken here.
            shard: which clips.

        Raises:
            DataError: as `fill`; more of the shard's clips than `job.max_bad` were skipped.
            UsageError: another process prepares the shard, or a split has fewer clips than there are shards.
        """
        self.versions()
        job = replace(job, fingerprint=self._digest(job.source))
        chosen = self.choose(job)
        clips, out = shard.of(chosen.clips), job.out
        job.note(f"{self.name}: shard {shard} has {len(clips)} of {len(chosen.clips)} clips")
        with disk_errors(out), kept_folder(shard.folder(out), out, self._identity(job), job.warn) as folder:
            return work_clips(clips, self.work(), self.specs(), folder=folder, job=job, exempt=chosen.exempt)

    def most_shards(self, job: Job) -> int:
        """Return how many shards can be made: as many as the smallest split has clips.

        Raises:
            DataError: as `fill`.
        """
        members = plan_of(self.choose(self._quiet(job)).clips, {}).members
        return min(map(len, members.values()))

    def join(self, job: Job) -> None:
        """Put the rows of all shards where `run` finds them, as if one process had decoded all clips.

        Raises:
            DataError: a shard is missing, not finished, or of other settings.
            UsageError: there are no shards, or another process works there.
        """
        quiet = self._quiet(job)
        chosen, identity = self.choose(quiet), self._identity(quiet)
        with disk_errors(job.out), kept_folder(scratch_of(job.out), job.out, identity, job.warn) as folder:
            join_shards(job.out, chosen.clips, self.specs(), folder, identity_text(identity))

    def _quiet(self, job: Job) -> Job:
        """The same job with its fingerprint, and without warnings that another step gives."""
        return replace(job, fingerprint=self._digest(job.source), warn=ignore, note=ignore)

    def complete(self, job: Job, writer: DatasetWriter, chosen: Chosen) -> Mapping[str, Any]:
        """Add modalities that are made of all samples together, once it is known which clips are stored.

        Args:
            job: the preparation.
            writer: has the three splits.
            chosen: what `choose` gave.

        Returns:
            What `dataset.json` says about it, as parts of `source`.
        """
        del job, writer, chosen
        return {}
