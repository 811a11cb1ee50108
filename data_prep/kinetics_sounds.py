"""kinetics_sounds: 31 classes of Kinetics-400 that can be seen and heard, sound and pictures.

After Arandjelovic & Zisserman 2017, "Look, listen and learn", in the selection of 31 classes that the
literature on balanced multimodal learning uses. There is no download of its own: the source is that of
Kinetics-400, or the part of it with these classes.

Splits: train, validation and test part of Kinetics-400, or the literature's lists, which are subsets of
them (14,799 / 1,320 / 2,597 clips; the validation part is in one of the published lists only). Every
clip gives the log-mel filter banks of its sound and ten pictures at the centres of ten equal segments,
which is one a second for the ten seconds that nearly all clips last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from data_prep.base import Job, Preparer
from data_prep.media import ClipError, frame_times, read_audio, read_frames
from data_prep.media.audio import fbank
from data_prep.media.pictures import FRAME_SIZE, IMAGENET, FrameSize
from data_prep.sources.kinetics_lists import CLASSES, Listed, list_files, parse_clip, read_splits
from data_prep.sources.listfiles import find_files
from data_prep.writing.clips import ArraySpec, Clip, Outcome, write_clips
from data_prep.writing.provenance import decoders, fingerprint
from data_prep.writing.selection import limit_clips, report_missing
from data_prep.writing.waveform_noise import with_noise
from drcli.data.format import DatasetInfo

RATE = 16000  # Hz
SUFFIXES = frozenset({".mp4", ".mkv", ".webm"})


class KineticsSounds(Preparer):
    """Sound and pictures of actions: `audio` (1, 128, 1024), `visual` (frames, 3, H, W)."""

    name = "kinetics_sounds"
    needs_source = True
    resumable = True
    waveform = "audio"

    class Settings(Preparer.Settings):
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

    def fingerprint(self, source: Path | None, /) -> str:
        """Digest of lists and annotations by content, and of the listed clips by name and size."""
        assert source is not None
        paths = [clip.path for clip in self._find(source)[0]]
        return fingerprint(source, paths, list_files(source, self.settings.lists_dir))

    def prepare(self, job: Job) -> DatasetInfo:
        """Decode the listed clips that are there and write the three splits."""
        assert job.source is not None
        clips, listed = self._find(job.source)
        missing = report_missing(listed, clips, self._classes, job.warn)
        chosen = limit_clips(clips, self._classes, job, seed=self.settings.seed)
        writer, report = write_clips(
            job, chosen, Work(self.settings), self._specs(), name=self.name, classes=self._classes
        )
        source = {"fingerprint": job.fingerprint, "limit": job.limit, "missing": missing, "decoders": decoders()}
        return writer.finish(settings=self.settings.model_dump(mode="json"), source={**source, **report.source()})

    @property
    def _classes(self) -> tuple[str, ...]:
        return self.settings.classes or CLASSES

    def _find(self, source: Path) -> tuple[list[SoundClip], dict[str, dict[str, int]]]:
        """The listed clips that are in the source, and how many are listed by split and class."""
        splits = read_splits(source, self.settings.lists_dir, self._classes)
        files = find_clips(source)
        clips = []
        for split, entries in splits.items():
            for entry in entries:
                path = best_file(files.get(entry.video, ()), entry)
                if path is not None:
                    clips.append(SoundClip(entry.video, self._classes.index(entry.label), split, path))
        counts = {split: dict(Counter(entry.label for entry in entries)) for split, entries in splits.items()}
        return clips, counts

    def _specs(self) -> dict[str, ArraySpec]:
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
        return Outcome(
            {"audio": fbank(wave, rate=RATE), "visual": frames.pixels}, sound.bad_packets + frames.bad_packets
        )

    def _times(self, duration: float) -> list[float]:
        if duration < self.settings.min_seconds:
            raise ClipError("too short", f"{duration:.2f} s of video, min_seconds is {self.settings.min_seconds:g}")
        return frame_times(duration, count=self.settings.frames)


def find_clips(source: Path) -> dict[str, list[Path]]:
    """All files below a folder that are named like a clip, by YouTube id.

    Flat folders, folders of classes and the replacements for corrupt clips may stand side by side.
    """
    found: dict[str, list[Path]] = {}
    for path in find_files(source, SUFFIXES):
        clip = parse_clip(path.stem)
        if clip is not None:
            found.setdefault(clip[0], []).append(path)
    return found


def best_file(paths: Sequence[Path], entry: Listed) -> Path | None:
    """The file of a listed clip: one with the listed start, a replacement before others; None if there is none.

    Args:
        paths: files with the clip's YouTube id.
        entry: the listed clip.
    """

    def rank(path: Path) -> tuple[bool, bool, int, str]:
        clip = parse_clip(path.stem)
        is_other = clip is not None and None not in (clip[1], entry.start) and clip[1] != entry.start
        is_replacement = any(part.startswith("replacement") for part in path.parts)
        return is_other, not is_replacement, len(path.parts), str(path)

    there = [path for path in paths if path.is_file()]  # links of class folders may lead nowhere
    return min(there, key=rank, default=None)
