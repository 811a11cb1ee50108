"""Datasets of clips that give sound and pictures: filter banks of the one, pictures at even distances of the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.clip_preparer import Chosen, ClipPreparer
from data_prep.files.folders import find_files
from data_prep.job import Job
from data_prep.media import ClipError, frame_times, read_audio, read_frames
from data_prep.media.audio import fbank
from data_prep.media.pictures import FRAME_SIZE, IMAGENET, FrameSize
from data_prep.sources.kinetics_lists import SUFFIXES
from data_prep.writing.clips import ArraySpec, Clip, Outcome
from data_prep.writing.selection import Search, limit_clips, report_missing
from data_prep.writing.waveform_noise import with_noise

RATE = 16000  # Hz
KINDS = ".mp4, .mkv or .webm files"
FEWER = "fewer pictures than its header states"

Named = tuple[str, str]
"""Name and class of a listed clip."""


@dataclass(frozen=True)
class SoundClip(Clip):
    """A clip, its file, and which part of it is the sample.

    Attributes:
        path: the file.
        start: second of the file at which the sample begins.
        end: second at which it ends; None, or one after the file's end: the end of the file.
    """

    path: Path
    start: float = 0.0
    end: float | None = None


class SoundPictures(ClipPreparer):
    """Makes `audio` (1, 128, 1024) and `visual` (frames, 3, H, W) of each clip."""

    waveform = "audio"

    class Settings(ClipPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

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

    settings: Settings

    def work(self) -> Work:
        """What decodes a clip, by the settings."""
        return Work(self.settings)

    def specs(self) -> dict[str, ArraySpec]:
        """A spectrogram and pictures."""
        frames = (self.settings.frames, 3, *self.settings.frame_size)
        return {
            "audio": ArraySpec((1, 128, 1024), "float16"),
            "visual": ArraySpec(frames, "uint8", kind="frames", statistics=IMAGENET),
        }

    def chosen(
        self,
        job: Job,
        listed: Mapping[str, Sequence[Named]],
        clips: Sequence[SoundClip],
        classes: tuple[str, ...],
        source: Mapping[str, Any],
    ) -> Chosen:
        """The clips within the limit; warns of those that are missing.

        Args:
            job: the preparation.
            listed: what the lists have, by split.
            clips: those of them that are in the source.
            classes: class names in index order.
            source: what `dataset.json` says of the source besides `missing`.

        Raises:
            DataError: none of the listed clips of a split was found.
        """
        names = {split: [name for name, _ in entries] for split, entries in listed.items()}
        Search(job.download, names, lambda: find_files(job.download, SUFFIXES), KINDS).check(clips)
        counts = {split: dict(Counter(label for _, label in entries)) for split, entries in listed.items()}
        missing = report_missing(counts, clips, classes, job.warn)
        kept = limit_clips(clips, classes, job, seed=self.settings.seed)
        return Chosen(kept, classes, {"missing": missing, **source})


@dataclass(frozen=True)
class Work:
    """From a clip to its rows.

    Attributes:
        settings: of the preparation.
        repeat_to: seconds that a shorter sound is repeated to fill; 0 leaves it as it is.
        counts: whether pictures are decoded to the end, and their number compared with the header's.
    """

    settings: SoundPictures.Settings
    repeat_to: float = 0.0
    counts: bool = False

    def __call__(self, clip: SoundClip) -> Outcome:
        """Decode sound and pictures.

        Raises:
            ClipError: the clip has no sound, is damaged or too short.
        """
        sound = read_audio(clip.path, rate=RATE)
        wave = with_noise(self._filled(cut(sound.samples, clip)), clip, self.settings)
        frames = read_frames(
            clip.path,
            lambda duration: self._times(clip, duration),
            size=self.settings.frame_size,
            to_end=self.counts,
        )
        fewer = max(0, frames.stated - frames.decoded) if self.counts else 0
        findings = {**sound.findings, **({FEWER: fewer} if fewer else {})}
        arrays: dict[str, NDArray[Any]] = {
            "audio": fbank(wave.astype(np.float32, copy=False), rate=RATE),
            "visual": frames.pixels,
        }
        return Outcome(arrays, sound.bad_packets + frames.bad_packets, findings)

    def _times(self, clip: SoundClip, duration: float) -> list[float]:
        """Centres of equal segments of the sample, in seconds of the file."""
        if duration < self.settings.min_seconds:
            raise ClipError("too short", f"{duration:.2f} s of video, min_seconds is {self.settings.min_seconds:g}")
        end = duration if clip.end is None else min(clip.end, duration)
        if end <= clip.start:
            raise ClipError("too short", f"{duration:.2f} s of video, the sample begins at {clip.start:g} s")
        return [clip.start + time for time in frame_times(end - clip.start, count=self.settings.frames)]

    def _filled(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        length = round(self.repeat_to * RATE)
        return wave if len(wave) >= length else np.tile(wave, -(-length // len(wave)))[:length]


def cut(samples: NDArray[np.float32], clip: SoundClip) -> NDArray[np.float32]:
    """The samples (S,), at `RATE`, of the part of a file that is the sample.

    Raises:
        ClipError: the sound ends before it begins.
    """
    part = samples[round(clip.start * RATE) : None if clip.end is None else round(clip.end * RATE)]
    if not len(part):
        raise ClipError("too short", f"{len(samples) / RATE:.2f} s of sound, the sample begins at {clip.start:g} s")
    return part
