"""vggsound: 309 classes of sounds whose source is to be seen, 200,000 clips of ten seconds (Chen et al. 2020).

The official lists have no validation part: `val_share` of the training videos become one, all clips of a video
together. The files of a fifth of the clips are gone from YouTube, so that what is missing is counted by split and
class. Headers of clips that were cut state more pictures than there are: every picture is decoded and counted, and
times are those of decoded pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from data_prep.clip_preparer import Chosen
from data_prep.job import Job
from data_prep.sound_pictures import SoundClip, SoundPictures, Work
from data_prep.sources.shared_videos import report_shared, shared_videos, without_shared
from data_prep.sources.vggsound_lists import CLASSES, Key, Listed, find_clips, list_paths, read_names, read_splits
from data_prep.writing.provenance import fingerprint
from data_prep.writing.splits import row_generator, share_out, stratified_order
from drcli.data.format import SPLITS
from drcli.errors import DataError


class VggSound(SoundPictures):
    """Sound and pictures of what makes it: `audio` (1, 128, 1024), `visual` (frames, 3, H, W)."""

    name = "vggsound"

    class Settings(SoundPictures.Settings):
        """The recipe's `dataset.prepare` block."""

        lists_dir: Path | None = Field(
            None, description="folder of vggsound.csv, or of train.csv and test.csv; null: that of the download"
        )
        val_share: float = Field(
            0.05, gt=0, lt=1, description="part of the videos of train that become the validation split"
        )
        drop_shared: bool = Field(False, description="leave clips out of train and val whose video is in test too")
        exclude: tuple[Path, ...] | None = Field(
            None, description="lists of clips that are left out, one name a line: broken, silent or still ones"
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of the lists by content, and of the listed clips by name and size."""
        lists = list_paths(source, self.settings.lists_dir)
        files = find_clips(source)
        listed = [clip for clips in read_splits(lists).values() for clip in clips]
        paths = [files[clip.key] for clip in listed if clip.key in files]
        return fingerprint(source, paths, [*lists.values(), *(self.settings.exclude or ())])

    def choose(self, job: Job) -> Chosen:
        """Find the listed clips, and which split each is in."""
        official = read_splits(list_paths(job.download, self.settings.lists_dir))
        classes = class_names(official, job)
        left_out = read_names(self.settings.exclude or ())
        splits = self._with_val(official)
        excluded = [clip.id for clips in splits.values() for clip in clips if clip.key in left_out]
        splits = {split: [clip for clip in clips if clip.key not in left_out] for split, clips in splits.items()}
        shared = shared_videos(splits)
        report_shared(shared, job.warn, is_dropping=self.settings.drop_shared)
        if self.settings.drop_shared:
            splits = without_shared(splits)
        listed = {split: [(clip.id, clip.label) for clip in clips] for split, clips in splits.items()}
        clips = _clips(splits, find_clips(job.download), classes)
        return self.chosen(job, listed, clips, classes, {"shared_videos": shared, "excluded": excluded})

    def work(self) -> Work:
        """What decodes a clip, by the settings; pictures are counted."""
        return Work(self.settings, counts=True)

    def _with_val(self, official: Mapping[str, Sequence[Listed]]) -> dict[str, list[Listed]]:
        """The three splits: of each class, a share of the training videos goes to val, with all their clips."""
        home = dict[str, str]()
        for clip in official["train"]:
            home.setdefault(clip.video, clip.label)
        videos = list(home)
        order = stratified_order(
            np.unique([home[video] for video in videos], return_inverse=True)[1].astype(np.int64),
            row_generator(self.settings.seed, "split"),
        )
        share = self.settings.val_share * len(videos)
        size = share_out({"val": share, "train": len(videos) - share})["val"]
        held = {videos[index] for index in order[:size].tolist()}
        parts = {
            "train": [clip for clip in official["train"] if clip.video not in held],
            "val": [clip for clip in official["train"] if clip.video in held],
            "test": list(official["test"]),
        }
        return {split: parts[split] for split in SPLITS}


def class_names(official: Mapping[str, Sequence[Listed]], job: Job) -> tuple[str, ...]:
    """The labels of the training list, by name; warns where they are not as many as VGGSound has.

    Raises:
        DataError: the test list has others.
    """
    labels = {split: {clip.label: clip.where for clip in clips} for split, clips in official.items()}
    unknown = sorted(labels["test"].keys() - labels["train"].keys())
    if unknown:
        raise DataError(
            f"{labels['test'][unknown[0]]}: label {unknown[0]!r} is not one of the {len(labels['train'])} of train; "
            "give both lists from one source"
        )
    if len(labels["train"]) != CLASSES:
        job.warn(f"the lists have {len(labels['train'])} classes, VGGSound has {CLASSES}")
    return tuple(sorted(labels["train"]))


def _clips(
    splits: Mapping[str, Sequence[Listed]], files: Mapping[Key, Path], classes: Sequence[str]
) -> list[SoundClip]:
    indices = {name: index for index, name in enumerate(classes)}
    return [
        SoundClip(clip.id, indices[clip.label], split, files[clip.key])
        for split, clips in splits.items()
        for clip in clips
        if clip.key in files
    ]
