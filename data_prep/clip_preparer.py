"""Datasets of clips: workers, resuming, skipped clips and their provenance are the same for all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_prep.base import DownloadPreparer, Filled
from data_prep.job import Job
from data_prep.writing.clips import ArraySpec, Clip, Work, write_clips
from data_prep.writing.provenance import decoders
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
