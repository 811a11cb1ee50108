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

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from data_prep.clip_preparer import Chosen, ClipPreparer
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.media import ClipError, frame_times, read_audio, read_frames
from data_prep.media.audio import fbank
from data_prep.media.pictures import FRAME_SIZE, IMAGENET, FrameSize
from data_prep.sources.kinetics_files import OtherTime, find_clips, match_clips, other_time_lines
from data_prep.sources.kinetics_lists import CLASSES, SUFFIXES, Listed
from data_prep.sources.kinetics_splits import list_files, read_splits
from data_prep.writing.clips import ArraySpec, Clip, Outcome
from data_prep.writing.provenance import fingerprint
from data_prep.writing.selection import Search, limit_clips, report_missing
from data_prep.writing.waveform_noise import with_noise

RATE = 16000  # Hz
KINDS = ".mp4, .mkv or .webm files"


class KineticsSounds(ClipPreparer):
    """Sound and pictures of actions: `audio` (1, 128, 1024), `visual` (frames, 3, H, W)."""

    name = "kinetics_sounds"
    waveform = "audio"

    class Settings(ClipPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        lists_dir: Path | None = Field(
            None,
            description="folder of the literature's lists (my_train.txt and my_test.txt, or KS_train_val.json); "
            "null: the splits of Kinetics-400",
        )
        classes: tuple[str, ...] | None = Field(
            None, min_length=2, description="names of classes of Kinetics-400; null: the 31 of the literature"
        )
        frames: int = Field(10, ge=1, le=100, description="stored pictures per clip, at the centres of equal segments")
        frame_size: FrameSize = Field(FRAME_SIZE, description="height and width of stored pictures, in pixels")
        min_seconds: float = Field(
            3.0, ge=0, le=86_400, allow_inf_nan=False, description="clips with a shorter video are skipped"
        )
        waveform_snr_db: float | None = Field(
            None, ge=-60, le=60, description="power of the sound over that of white noise, in dB; null: no noise"
        )
        waveform_noise_splits: tuple[Literal["train", "val", "test"], ...] = Field(
            ("train", "val", "test"), description="splits with noise on the sound"
        )
        seed: int = Field(
            0, ge=0, le=2**63 - 1, description="seed of the noise, and of the choice of clips under --limit"
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
        names = {split: [entry.video for entry in entries] for split, entries in splits.items()}
        Search(job.download, names, lambda: find_files(job.download, SUFFIXES), KINDS).check(clips)
        listed = {split: dict(Counter(entry.label for entry in entries)) for split, entries in splits.items()}
        missing = report_missing(listed, clips, self._classes, job.warn)
        chosen = limit_clips(clips, self._classes, job, seed=self.settings.seed)
        return Chosen(chosen, self._classes, {"missing": missing, "other_times": [str(other) for other in others]})

    def work(self) -> Work:
        """What decodes a clip, by the settings."""
        return Work(self.settings)

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

    def specs(self) -> dict[str, ArraySpec]:
        """A spectrogram and pictures."""
        frames = (self.settings.frames, 3, *self.settings.frame_size)
        return {
            "audio": ArraySpec((1, 128, 1024), "float16"),
            "visual": ArraySpec(frames, "uint8", kind="frames", statistics=IMAGENET),
        }


@dataclass(frozen=True)
class SoundClip(Clip):
    """A clip and its file."""

    path: Path


@dataclass(frozen=True)
class Work:
    """From a clip to its rows."""

    settings: KineticsSounds.Settings

    def __call__(self, clip: SoundClip) -> Outcome:
        """Decode sound and pictures.

        Raises:
            ClipError: the clip has no sound, is damaged or too short.
        """
        sound = read_audio(clip.path, rate=RATE)
        wave = with_noise(sound.samples, clip, self.settings).astype(np.float32, copy=False)
        frames = read_frames(clip.path, self._times, size=self.settings.frame_size)
        bad_packets = sound.bad_packets + frames.bad_packets
        return Outcome({"audio": fbank(wave, rate=RATE), "visual": frames.pixels}, bad_packets, sound.findings)

    def _times(self, duration: float) -> list[float]:
        if duration < self.settings.min_seconds:
            raise ClipError("too short", f"{duration:.2f} s of video, min_seconds is {self.settings.min_seconds:g}")
        return frame_times(duration, count=self.settings.frames)
