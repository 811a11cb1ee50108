"""kinetics_sounds: 31 classes of Kinetics-400 that can be seen and heard, sound and pictures.

After Arandjelovic & Zisserman 2017, "Look, listen and learn", in the selection of 31 classes that the
literature on balanced multimodal learning uses. There is no download of its own: the source is that of
Kinetics-400, or the part of it with these classes.

Splits: train, validation and test part of Kinetics-400, or the literature's lists, which are subsets of
them (14,799 / 1,320 / 2,597 clips; the validation part is in one of the published lists only). Every
clip gives the log-mel filter banks of its sound and ten pictures at the centres of ten equal segments,
which is one per second for the ten seconds that nearly all clips last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from data_prep.clip_preparer import Chosen
from data_prep.job import Job
from data_prep.sound_pictures import SoundClip, SoundPictures
from data_prep.sources.kinetics_files import OtherTime, find_clips, match_clips, other_time_lines
from data_prep.sources.kinetics_lists import CLASSES, Listed
from data_prep.sources.kinetics_splits import list_files, read_splits
from data_prep.writing.provenance import fingerprint


class KineticsSounds(SoundPictures):
    """Sound and pictures of actions: `audio` (1, 128, 1024), `visual` (frames, 3, H, W)."""

    name = "kinetics_sounds"

    class Settings(SoundPictures.Settings):
        """The recipe's `dataset.prepare` block."""

        lists_dir: Path | None = Field(
            None,
            description="folder of the literature's lists (my_train.txt and my_test.txt, or KS_train_val.json); "
            "null: the splits of Kinetics-400",
        )
        classes: tuple[str, ...] | None = Field(
            None, min_length=2, description="names of classes of Kinetics-400; null: the 31 of the literature"
        )

        @field_validator("classes")
        @classmethod
        def _unique(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
            if names is not None and len(set(names)) < len(names):
                raise ValueError("must name each class once")
            return names

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of lists and annotations by content, and of the listed clips by name and size."""
        splits = read_splits(source, self.settings.lists_dir, self._classes)
        paths = [clip.path for clip in self._find(source, splits)[0]]
        return fingerprint(source, paths, list_files(source, self.settings.lists_dir))

    def choose(self, job: Job) -> Chosen:
        """Find the listed clips that are there."""
        splits = read_splits(job.download, self.settings.lists_dir, self._classes)
        clips, others = self._find(job.download, splits)
        for line in other_time_lines(others):
            job.warn(line)
        listed = {split: [(entry.video, entry.label) for entry in entries] for split, entries in splits.items()}
        return self.chosen(job, listed, clips, self._classes, {"other_times": [str(other) for other in others]})

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.settings.classes or CLASSES

    def _find(self, source: Path, splits: Mapping[str, Sequence[Listed]]) -> tuple[list[SoundClip], list[OtherTime]]:
        """The listed clips that are in the source, and those that are there at another time of their video."""
        matches, others = match_clips((entry for part in splits.values() for entry in part), find_clips(source))
        clips = [
            SoundClip(entry.video, self._classes.index(entry.label), split, matches[entry.video])
            for split, entries in splits.items()
            for entry in entries
            if entry.video in matches
        ]
        return clips, others
