"""Any iterables of ({modality: array}, label) as a prepared dataset: what `drcli.prepare_from` is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from data_prep.arrays import Arrays
from data_prep.base import Filled
from data_prep.job import Job
from drcli import __version__
from drcli.data.format import DatasetInfo, read_info
from drcli.data.verified import verify_files
from drcli.errors import DataError
from drcli.reading import differences

ORIGIN = "drcli.prepare_from"


@dataclass(frozen=True)
class Given:
    """What samples come with.

    Attributes:
        splits: pairs ({modality: array}, label) by split: train, test and, unless it is drawn from train, val.
        classes: names of the classes, of which labels are then numbers or names; None: the labels themselves.
        longest: most steps of sequences and tokens, by modality; longer ones are cut.
        version: a name for this state of the data, so that it need not be read to know that it is prepared already.
    """

    splits: Mapping[str, Iterable[Any]]
    classes: Sequence[str] | None = None
    longest: Mapping[str, int] = field(default_factory=dict)
    version: str | None = None

    def noted(self, settings: Arrays.Settings) -> dict[str, Any]:
        """What is noted of it beside the samples."""
        classes = None if self.classes is None else list(self.classes)
        asked = settings.model_dump(mode="json", exclude_defaults=True)
        return {"version": self.version, "classes": classes, "longest": dict(self.longest), "settings": asked}


class Streamed(Arrays):
    """A dataset `arrays` of samples that a program gives; recipes take it as any other by `dataset.root`.

    Args:
        settings: what the arrays mean; noted in `source`, so that a recipe's `dataset.prepare` stays empty.
        given: the samples.
    """

    needs_source: ClassVar[bool] = False

    def __init__(self, settings: Arrays.Settings, given: Given) -> None:
        super().__init__(settings)
        self.given = given

    def fill(self, job: Job) -> Filled:
        """Write the samples as they come, and make the dataset of what was written."""
        filled = self.stage(self.given.splits, job, ORIGIN, longest=self.given.longest, classes=self.given.classes)
        source = {key: value for key, value in filled.source.items() if key != "samples"}
        made = {"by": ORIGIN, "drcli": __version__, **self.given.noted(self.settings)}
        return Filled(filled.writer, {**source, "fingerprint": filled.source["samples"], "made": made})

    def _digest(self, source: Path | None) -> str:
        del source
        return ""  # what the samples are is known when they have been read

    def _plain_settings(self) -> dict[str, Any]:
        return Arrays.Settings().model_dump(mode="json")

    def _existing(self, job: Job) -> DatasetInfo:
        """The dataset that is there, if it is of this version and was asked for in the same way."""
        if self.given.version is None:
            raise DataError(
                f"{job.out}: holds a prepared dataset; fresh=True replaces it, and a `version` given each time says "
                "that the data is still the same"
            )
        info = read_info(job.out)
        there = {key: value for key, value in _made(info).items() if key not in {"by", "drcli"}}
        changed = differences({**there, "limit": info.source.get("limit")}, self._asked(job))
        if changed:
            raise DataError(
                f"{job.out}: holds another prepared dataset ({'; '.join(changed)}); choose another folder, or replace "
                "it with fresh=True"
            )
        verify_files(job.out, info, f"{ORIGIN} with fresh=True")
        return info

    def _asked(self, job: Job) -> dict[str, Any]:
        return {**self.given.noted(self.settings), "limit": job.limit}


def _made(info: DatasetInfo) -> Mapping[str, Any]:
    made = info.source.get("made")
    return made if isinstance(made, Mapping) else {}
