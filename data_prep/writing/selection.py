"""Which of the listed clips are prepared: those that are there, within the limit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from data_prep.job import Job, ignore
from data_prep.writing.clips import Clip
from data_prep.writing.splits import check_classes, limit_splits, row_generator
from drcli.data.format import SPLITS
from drcli.errors import DataError

ClipT = TypeVar("ClipT", bound=Clip)

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Search:
    """What was looked for in a source.

    Attributes:
        source: folder of the download.
        listed: names of the listed clips by split, as the lists spell them.
        files: finds what might be a clip there; called only where nothing was found.
        kinds: what such files are, for a message (".avi, .mp4 or .mkv files").
        besides: what else each clip needs, for a message.
    """

    source: Path
    listed: Mapping[str, Sequence[str]]
    files: Callable[[], Iterable[Path]]
    kinds: str
    besides: str = ""

    def check(self, present: Sequence[Clip]) -> None:
        """Refuse a source in which no listed clip of some split was found.

        Raises:
            DataError: the message says how many were looked for, how many files there are, and gives an example of
                each.
        """
        found = {clip.split for clip in present}
        for split, names in self.listed.items():
            if names and split not in found:
                raise DataError(
                    f"{self.source}: none of the {len(names)} listed clips of {split} was found; looked for "
                    f"{min(names)!r}, for example; {self._there()}; name the folder above the clips, "
                    f"whose files are named as in the lists{self.besides}"
                )

    def _there(self) -> str:
        files = list(self.files())
        if not files:
            return f"the folder holds no {self.kinds}"
        return f"the folder holds {len(files)} {self.kinds}, such as {min(files).relative_to(self.source)}"


def report_missing(
    listed: Mapping[str, Counts], present: Sequence[Clip], classes: Sequence[str], warn: Callable[[str], None]
) -> dict[str, dict[str, int]]:
    """How many listed clips are not in the source, by split and class; warns of them, a line per split.

    Args:
        listed: number of clips by split and class name.
        present: the clips that were found.
        classes: class names in index order.
        warn: receives one line for each split that lacks some.
    """
    missing: dict[str, dict[str, int]] = {}
    for split, counts in listed.items():
        found = Counter(classes[clip.label] for clip in present if clip.split == split)
        lacking = {name: counts[name] - found[name] for name in classes if counts.get(name, 0) > found[name]}
        if lacking:
            missing[split] = lacking
            details = ", ".join(f"{name} {count}" for name, count in lacking.items())
            total = sum(counts.values())
            warn(f"{split}: {sum(lacking.values())} of {total} listed clips are not in the source: {details}")
    return missing


def limit_clips(clips: Sequence[ClipT], classes: tuple[str, ...], job: Job, *, seed: int) -> list[ClipT]:
    """The clips that `--limit` leaves, split by split and otherwise in their order.

    Args:
        clips: all that could be prepared.
        classes: class names in index order.
        job: its limit counts.
        seed: decides which clips stay.

    Raises:
        DataError: a split would be empty, or a class absent from train.
    """
    labels = np.array([clip.label for clip in clips], dtype=np.int64)
    members = {split: np.flatnonzero([clip.split == split for clip in clips]) for split in SPLITS}
    kept = limit_splits(members, labels, job.limit, row_generator(seed, "limit"))
    check_classes(kept, labels, classes, ignore)  # the warnings come when skipped clips are known
    return [clips[index] for split in SPLITS for index in kept[split].tolist()]
