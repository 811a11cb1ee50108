"""ave: 28 events that can be seen and heard, in videos of ten seconds (Tian et al. 2018).

The lists say from which second to which second of a video its event lasts; `window: event` takes this part, as
four of the seven repositories on balanced learning that use AVE do, `window: clip` the ten seconds. 45 videos have
two events or three, each a row of its own under an id with a number. 18 videos are in train and in another split,
under two labels: this is reported, and `drop_shared` leaves their rows out of train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_prep.clip_preparer import Chosen
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.sound_pictures import SoundClip, SoundPictures, Work
from data_prep.sources.ave_lists import CLASSES, LONGEST, Event, list_paths, read_splits, without_empty
from data_prep.sources.kinetics_lists import SUFFIXES
from data_prep.sources.shared_videos import report_shared, shared_videos, without_shared
from data_prep.writing.provenance import fingerprint


class Ave(SoundPictures):
    """Sound and pictures of an event: `audio` (1, 128, 1024), `visual` (frames, 3, H, W)."""

    name = "ave"

    class Settings(SoundPictures.Settings):
        """The recipe's `dataset.prepare` block."""

        lists_dir: Path | None = Field(
            None, description="folder of trainSet.txt, valSet.txt and testSet.txt; null: that of the download"
        )
        window: Literal["event", "clip"] = Field(
            "event", description="part of a video that is used; event: the seconds of its event; clip: all ten"
        )
        repeat_sound: bool = Field(
            True, description="repeat the sound of a shorter event to fill ten seconds; false: silence follows it"
        )
        drop_shared: bool = Field(
            False, description="leave rows out of train whose video is in val or test too (19 rows of 18 videos)"
        )
        classes: tuple[str, ...] | None = Field(
            None, min_length=2, description="names of the categories that are used; null: all 28"
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of the lists by content, and of the listed videos by name and size."""
        lists = list_paths(source, self.settings.lists_dir)
        clips = self._clips(read_splits(lists, self._classes), find_videos(source))
        return fingerprint(source, {clip.path for clip in clips}, lists.values())

    def choose(self, job: Job) -> Chosen:
        """Find the videos of the listed events."""
        splits = read_splits(list_paths(job.download, self.settings.lists_dir), self._classes)
        splits, empty = without_empty(splits) if self.settings.window == "event" else (splits, [])
        for event in empty:
            job.warn(f"{event.where}: the event of {event.video} lasts 0 s; left out")
        shared = shared_videos(splits)
        report_shared(shared, job.warn, is_dropping=self.settings.drop_shared)
        if self.settings.drop_shared:
            splits = without_shared(splits)
        listed = {split: [(event.id, event.label) for event in events] for split, events in splits.items()}
        clips = self._clips(splits, find_videos(job.download))
        source = {"empty_events": [event.id for event in empty], "shared_videos": shared}
        return self.chosen(job, listed, clips, self._classes, source)

    def work(self) -> Work:
        """What decodes a video, by the settings."""
        return Work(self.settings, repeat_to=float(LONGEST) if self.settings.repeat_sound else 0.0)

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.settings.classes or CLASSES

    def _clips(self, splits: Mapping[str, Sequence[Event]], videos: Mapping[str, Path]) -> list[SoundClip]:
        whole = self.settings.window == "clip"
        return [
            SoundClip(
                event.id,
                self._classes.index(event.label),
                split,
                videos[event.video],
                0.0 if whole else float(event.start),
                None if whole else float(event.end),
            )
            for split, events in splits.items()
            for event in events
            if event.video in videos
        ]


def find_videos(source: Path) -> dict[str, Path]:
    """The files below a folder that are named `<id>.mp4`, by id; of two of a name the first is taken."""
    found: dict[str, Path] = {}
    for path in find_files(source, SUFFIXES):
        found.setdefault(path.stem, path)
    return found
