"""cremad: six emotions, acted by 91 speakers; sound and face.

Cao et al. 2014, "CREMA-D: Crowd-sourced emotional multimodal actors dataset". The sound is that of
AudioWAV, never that of the videos, some of which had none for years. Pictures are taken at the centres
of equal segments of a clip: the rate of the literature is not published, a fixed number keeps the
arrays uniform, and the recipe's `frames` chooses from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from data_prep.clip_preparer import Chosen, ClipPreparer
from data_prep.files.lfs import refuse_pointers
from data_prep.job import Job
from data_prep.media import frame_times, read_audio, read_frames
from data_prep.media.audio import fbank, stft
from data_prep.media.pictures import FRAME_SIZE, IMAGENET, FrameSize
from data_prep.sources.cremad_files import AUDIO, BROKEN, EMOTIONS, TWINS, Recording, find_recordings, same_content
from data_prep.sources.cremad_splits import list_paths, missing_clips, read_splits, split_clips, split_speakers
from data_prep.writing.clips import ArraySpec, Clip, Outcome
from data_prep.writing.provenance import decoders, fingerprint
from data_prep.writing.selection import limit_clips
from data_prep.writing.waveform_noise import with_noise
from drcli.data.format import SPLITS
from drcli.errors import DataError

ORDERS = {"dr": EMOTIONS, "ogm": ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")}
RATES = {"fbank": 16000, "stft": 22050}  # Hz
SHAPES = {"fbank": (1, 128, 1024), "stft": (1, 257, 188)}


class Cremad(ClipPreparer):
    """Sound and face of an acted sentence: `audio` (1, F, T), `visual` (frames, 3, H, W)."""

    name = "cremad"
    waveform = "audio"

    class Settings(ClipPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        audio: Literal["fbank", "stft"] = Field(
            "fbank",
            description="fbank: 128 mel bins x 1,024 frames of 10 ms, at 16 kHz; "
            "stft: 257 bins x 188 frames, three seconds at 22,050 Hz",
        )
        frames: int = Field(6, ge=1, le=100, description="stored pictures per clip, at the centres of equal segments")
        frame_size: FrameSize = Field(FRAME_SIZE, description="height and width of stored pictures, in pixels")
        split: Literal["clips", "speaker"] = Field(
            "clips",
            description="clips: a speaker may be in all splits, as in the literature; speaker: each speaker is in one "
            "split only",
        )
        split_dir: Path | None = Field(
            None, description="folder of the authors' lists (my_train.csv, val.csv, test.csv); null: a seeded split"
        )
        class_order: Literal["dr", "ogm"] = Field(
            "dr", description="dr: ANG DIS FEA HAP NEU SAD, by name; ogm: NEU HAP SAD FEA DIS ANG"
        )
        skip_broken: bool = Field(False, description="leave out the four recordings that are known to be broken")
        waveform_snr_db: float | None = Field(
            None, ge=-60, le=60, description="power of the sound over that of white noise, in dB; null: no noise"
        )
        waveform_noise_splits: tuple[Literal["train", "val", "test"], ...] = Field(
            ("train", "val", "test"), description="splits with noise on the sound"
        )
        seed: int = Field(
            0, ge=0, le=2**63 - 1, description="seed of the split, the noise, and the choice of clips under --limit"
        )

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of all recordings by name and size, and of the lists by content."""
        recordings, _ = find_recordings(source)
        files = [path for recording in recordings for path in (recording.audio, recording.video)]
        folder = self.settings.split_dir
        return fingerprint(source, files, [] if folder is None else list_paths(folder).values())

    def choose(self, job: Job) -> Chosen:
        """Find the recordings, and which split each is in."""
        found, lacking = find_recordings(job.download)
        files = [path for recording in found for path in (recording.video, recording.audio)]
        refuse_pointers(job.download, files, [AUDIO, "VideoFlash"])
        usable = [recording for recording in found if not (self.settings.skip_broken and recording.stem in BROKEN)]
        splits, missing = self._splits(usable, lacking, job)
        clips = limit_clips(self._clips(usable, splits), self._classes, job, seed=self.settings.seed)
        twins = report_twins(clips, job)
        report_broken(found, clips, job, is_skipping=self.settings.skip_broken)
        source = {
            "recordings": len(found),
            "missing": missing,
            "known_broken": sorted({r.stem for r in found} & BROKEN.keys()),
            "same_sound": twins,
        }
        return Chosen(clips, self._classes, source, exempt=BROKEN)

    def work(self) -> Work:
        """What decodes a recording, by the settings."""
        return Work(self.settings)

    def versions(self) -> dict[str, str]:
        """Versions of what decodes, and of torchaudio, which computes the spectrograms."""
        return decoders("torchaudio")

    @property
    def _classes(self) -> tuple[str, ...]:
        return ORDERS[self.settings.class_order]

    def _splits(
        self, usable: Sequence[Recording], lacking: Mapping[str, str], job: Job
    ) -> tuple[dict[str, list[str]], dict[str, str]]:
        """Names by split, and what is missing of the download, by name.

        Raises:
            DataError: more recordings than --max-bad allows are missing.
        """
        if self.settings.split_dir is None:
            check_missing(lacking, len(usable) + len(lacking), job)
            split = split_speakers if self.settings.split == "speaker" else split_clips
            return split(usable, self.settings.seed), dict(lacking)
        lists = read_splits(self.settings.split_dir, self.settings.seed)
        splits = {split: [stem for stem, _ in entries] for split, entries in lists.items()}
        listed = {stem for part in splits.values() for stem in part}
        unlisted = sum(recording.stem not in listed for recording in usable)
        if unlisted:
            job.warn(f"{self.settings.split_dir}: {unlisted} recordings of the download are in no split")
        known = {recording.stem for recording in usable} | (BROKEN.keys() if self.settings.skip_broken else set())
        absent = missing_clips(lists, known)
        missing = {
            stem: f"{where} lists it, but the download has {lacking.get(stem, 'none')}" for stem, where in absent
        }
        check_missing(missing, len(listed), job)
        return splits, missing

    def _clips(self, recordings: Sequence[Recording], splits: Mapping[str, Sequence[str]]) -> list[SpokenClip]:
        by_stem = {recording.stem: recording for recording in recordings}
        return [
            SpokenClip(stem, self._classes.index(by_stem[stem].emotion), split, by_stem[stem])
            for split in SPLITS
            for stem in sorted(splits[split])
            if stem in by_stem
        ]

    def specs(self) -> dict[str, ArraySpec]:
        """A spectrogram and pictures."""
        frames = (self.settings.frames, 3, *self.settings.frame_size)
        return {
            "audio": ArraySpec(SHAPES[self.settings.audio], "float16"),
            "visual": ArraySpec(frames, "uint8", kind="frames", statistics=IMAGENET),
        }


@dataclass(frozen=True)
class SpokenClip(Clip):
    """A recording in a split."""

    recording: Recording


@dataclass(frozen=True)
class Work:
    """From a recording to its rows."""

    settings: Cremad.Settings

    def __call__(self, clip: SpokenClip) -> Outcome:
        """Decode sound and pictures.

        Raises:
            ClipError: a file is damaged.
        """
        sound = read_audio(clip.recording.audio, rate=RATES[self.settings.audio])
        wave = with_noise(sound.samples, clip, self.settings)
        times = partial(frame_times, count=self.settings.frames)
        frames = read_frames(clip.recording.video, times, size=self.settings.frame_size)
        audio = fbank(wave) if self.settings.audio == "fbank" else stft(wave)
        bad_packets = sound.bad_packets + frames.bad_packets
        return Outcome({"audio": audio, "visual": frames.pixels}, bad_packets, sound.findings)


def check_missing(missing: Mapping[str, str], total: int, job: Job) -> None:
    """Warn of recordings that are missing, at most 20 by name.

    Args:
        missing: what is missing, by name.
        total: recordings that there should be.
        job: its `max_bad` bounds the share.

    Raises:
        DataError: they are too many.
    """
    lines = [f"{stem} is left out: {what}" for stem, what in missing.items()]
    if len(lines) > job.max_bad * total:
        raise DataError(
            f"{job.download}: {len(lines)} of {total} recordings are missing, more than the {100 * job.max_bad:g} % of "
            f"--max-bad: {'; '.join(lines[:3])}; complete the download, or repeat the command with a larger --max-bad"
        )
    for line in lines[:20]:
        job.warn(line)
    if len(lines) > 20:
        job.warn(f"{len(lines) - 20} more recordings are left out; all are listed under `source` in dataset.json")


def report_twins(clips: Sequence[SpokenClip], job: Job) -> list[list[str]]:
    """Pairs of clips that are known to have the same sound under two labels, if they do here; warns of each."""
    by_stem = {clip.id: clip for clip in clips}
    found = []
    for first, second in TWINS:
        if first in by_stem and second in by_stem:
            one, other = by_stem[first], by_stem[second]
            if same_content(one.recording.audio, other.recording.audio):
                job.warn(f"{first} ({one.split}) and {second} ({other.split}) have the same sound under two labels")
                found.append([first, second])
    return found


def report_broken(found: Sequence[Recording], clips: Sequence[SpokenClip], job: Job, *, is_skipping: bool) -> None:
    """Warn of each recording that is known to be broken, if it is prepared or `skip_broken` leaves it out.

    Those that no list or --limit has chosen are not mentioned.
    """
    chosen = {recording.stem for recording in found} if is_skipping else {clip.id for clip in clips}
    fate = "left out" if is_skipping else "kept, as the literature does; dataset.prepare.skip_broken=true leaves it out"
    for stem in sorted(chosen & BROKEN.keys()):
        job.warn(f"{stem} is known to be broken: {BROKEN[stem]}; {fate}")
