"""Videos that give rows to training and to another split: found, told, and left out of training where asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from drcli.amounts import counted

_SHOWN = 5  # videos in a message


class FromVideo(Protocol):
    """A listed clip."""

    @property
    def video(self) -> str:
        """YouTube id of the video that it is cut from."""


ListedT = TypeVar("ListedT", bound=FromVideo)


def shared_videos(splits: Mapping[str, Sequence[FromVideo]]) -> dict[str, list[str]]:
    """The videos that are in two splits, {"train, val": ids in order}; pairs without any are left out."""
    videos = {split: {entry.video for entry in entries} for split, entries in splits.items()}
    names = list(videos)
    pairs = [(first, second) for i, first in enumerate(names) for second in names[i + 1 :]]
    return {f"{a}, {b}": sorted(videos[a] & videos[b]) for a, b in pairs if videos[a] & videos[b]}


def without_shared(splits: Mapping[str, Sequence[ListedT]]) -> dict[str, list[ListedT]]:
    """The splits without the rows of train whose video is in val or test too, and those of val whose video is in test.

    The test split stays as it is, so that results compare with those of others.
    """
    kept: dict[str, list[ListedT]] = {}
    later: set[str] = set()
    for split in ("test", "val", "train"):
        kept[split] = [entry for entry in splits[split] if entry.video not in later]
        later |= {entry.video for entry in splits[split]}
    return {split: kept[split] for split in splits}


def report_shared(shared: Mapping[str, Sequence[str]], warn: Callable[[str], None], *, is_dropping: bool) -> None:
    """Warn of the videos that are in two splits, a line for each pair of splits.

    Args:
        shared: as `shared_videos` gives them.
        warn: receives the lines.
        is_dropping: whether the rows of the first of the two splits are left out.
    """
    fate = "left out of" if is_dropping else "kept, as the literature does; dataset.prepare.drop_shared=true leaves out"
    for pair, videos in shared.items():
        first = pair.split(",")[0]
        where = f"{fate} {first}" if is_dropping else f"{fate} those of {first}"
        more = ", ..." if len(videos) > _SHOWN else ""
        warn(f"{pair}: {counted(len(videos), 'video')} in both ({', '.join(videos[:_SHOWN])}{more}); {where}")
