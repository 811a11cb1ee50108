"""Decodes the sound of clips: mono, at a wanted rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import SLACK, ClipError, audio_stream, check_file, extra, open_media, stated_duration
from data_prep.media.limits import MAX_CHANNELS, check_rate, check_samples
from data_prep.media.wav import read_pcm

Samples = NDArray[np.float32]

SILENT = "silent sound"
CANCELLED = "sound whose channels cancel each other"
PEAK = 4.0  # of full scale; lossy codecs exceed 1 a little, integers that are taken for floats by far
_STEP = 2.0**-15  # of 16-bit samples
_PCM_SLACK = 0.02  # seconds; some headers count a few bytes of their own
_BATCH = 2**16  # samples that are mixed at a time
_CANCELLED = 1e-4  # power of the mean over channels, relative to that of the channels


@dataclass(frozen=True)
class Sound:
    """The sound of a clip.

    Attributes:
        samples: (S,) float32 mono in [-1, 1], the mean over channels.
        rate: samples per second.
        bad_packets: packets that did not decode.
        findings: `SILENT` or `CANCELLED`, for `data_prep.writing.workers.Outcome`.
    """

    samples: Samples
    rate: int
    bad_packets: int
    findings: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Mix:
    """Mono samples of a file, as they come, and what the channels were like.

    Attributes:
        pieces: rate and mono samples (S,) of each piece.
        bad_packets: packets that did not decode.
        stated: seconds that the header states; None: it does not.
        slack: seconds that may be missing from these.
        lowest: value of all channels; likewise highest.
        power: sum over samples of the mean square over channels.
        mono_power: sum over samples of the squared mean over channels.
    """

    pieces: list[tuple[int, Samples]] = field(default_factory=list)
    bad_packets: int = 0
    stated: float | None = None
    slack: float = SLACK
    lowest: float = np.inf
    highest: float = -np.inf
    power: float = 0.0
    mono_power: float = 0.0

    def add(self, rate: int, channels: NDArray[Any], scale: float) -> None:
        """Add samples (channels, S), which are to be multiplied by `scale`.

        Raises:
            ClipError: they are not finite, or far above full scale.
        """
        lowest, highest = float(channels.min()) * scale, float(channels.max()) * scale
        _check_range(lowest, highest)
        self.lowest, self.highest = min(self.lowest, lowest), max(self.highest, highest)
        mono = channels.mean(axis=0, dtype=np.float64) * scale
        self.pieces.append((rate, mono.astype(np.float32)))
        if len(channels) > 1:
            self.power += float(np.square(channels * scale, dtype=np.float64).mean(axis=0).sum())
            self.mono_power += float(np.square(mono).sum())

    @property
    def seconds(self) -> float:
        """Of all pieces."""
        return sum(len(piece) / rate for rate, piece in self.pieces)

    def findings(self) -> dict[str, int]:
        """What is odd about the sound, although it can be used."""
        if self.highest - self.lowest < _STEP:
            return {SILENT: 1}
        return {CANCELLED: 1} if self.mono_power < _CANCELLED * self.power else {}


def _check_range(lowest: float, highest: float) -> None:
    """Check that samples are finite, and not far above full scale: clipped, they would be a square wave."""
    peak = max(-lowest, highest)
    if not np.isfinite([lowest, highest]).all():
        raise ClipError("corrupt", "the sound has samples that are not finite")
    if peak > PEAK:
        raise ClipError(
            "out of range",
            f"its samples reach {peak:.6g}, and full scale is 1: floating-point numbers in the range of integers; "
            "divide them by 32768, or by their full scale, and save the file again",
        )


def read_audio(path: Path, *, rate: int | None, seconds: float | None = None) -> Sound:
    """Decode the sound of a clip.

    Args:
        path: a WAV file, or a container with an audio stream.
        rate: samples per second to resample to; None keeps the file's.
        seconds: stop after so much; None reads everything.

    Raises:
        ClipError: the file cannot be opened, has no audio stream, no samples, ends before its header
            says, holds numbers that are not finite or far above 1, or states an absurd rate or length.
    """
    mix = _mix(path, seconds)
    held = mix.seconds
    if not held:
        raise ClipError(
            "corrupt" if mix.bad_packets else "too short", f"the sound has no samples, {mix.bad_packets} bad packets"
        )
    if mix.stated is not None and held < min(mix.stated, seconds or mix.stated) - mix.slack:
        raise ClipError("corrupt", f"the sound ends after {held:.2f} s of {mix.stated:.2f} s")
    rate = rate or mix.pieces[0][0]
    check_samples(round(held * rate), rate)
    runs = [(own, np.concatenate([piece for _, piece in run])) for own, run in groupby(mix.pieces, lambda p: p[0])]
    samples = np.concatenate([resample(run, own, rate) for own, run in runs])
    if not len(samples):
        raise ClipError("too short", f"the sound has no samples at {rate} Hz")
    wanted = None if seconds is None else round(seconds * rate)
    return Sound(np.clip(samples[:wanted], -1, 1), rate, mix.bad_packets, mix.findings())


def _mix(path: Path, seconds: float | None) -> _Mix:
    """All samples of a file, or those of the first seconds and a little more."""
    check_file(path)
    pcm = read_pcm(path)
    if pcm is not None:
        mix = _Mix(stated=pcm.stated, slack=_PCM_SLACK)
        mix.add(pcm.rate, pcm.values.T, 1 / 32768)
        return mix
    with open_media(path) as container:
        stream = audio_stream(container)
        mix = _Mix(stated=stated_duration(container, stream) if stream.duration else None)
        _decode(container, stream, seconds, mix)
        return mix


def _decode(container: Any, stream: Any, seconds: float | None, mix: _Mix) -> None:
    """Add the samples of all frames, many at a time."""
    frames = _frames(container, stream, seconds, mix)
    for (rate, _, _), alike in groupby(frames, lambda frame: (frame.sample_rate, frame.format.name, frame.layout.name)):
        while batch := _batch(alike):
            scale = batch[0][1]
            mix.add(rate, np.concatenate([values for values, _ in batch], axis=1), scale)


def _batch(frames: Iterator[Any]) -> list[tuple[NDArray[Any], float]]:
    """Samples of the next frames, as many as one addition is worth."""
    batch, held = [], 0
    for frame in frames:
        batch.append(_channels(frame))
        held += frame.samples
        if held >= _BATCH:
            break
    return batch


def _frames(container: Any, stream: Any, seconds: float | None, mix: _Mix) -> Iterator[Any]:
    """Decoded frames up to the wanted time and a little more; bad packets are counted in `mix`."""
    av = extra("av")
    count, held = 0, 0.0
    for packet in _packets(container, stream):
        if packet is None:  # the container is damaged here
            mix.bad_packets += 1
            return
        try:
            frames = [frame for frame in packet.decode() if frame.samples]
        except av.FFmpegError:
            mix.bad_packets += 1
            continue
        for frame in frames:
            check_rate(frame.sample_rate)
            count += frame.samples
            check_samples(count, frame.sample_rate)
            held += frame.samples / frame.sample_rate
            yield frame
        if seconds is not None and held > seconds + SLACK:  # resampling needs a little more
            return


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    av = extra("av")
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        yield None


def _channels(frame: Any) -> tuple[NDArray[Any], float]:
    """The samples (channels, S) of a frame, and what makes integers among them lie in [-1, 1)."""
    if not 1 <= frame.layout.nb_channels <= MAX_CHANNELS:
        raise ClipError("corrupt", f"the sound has {frame.layout.nb_channels} channels")
    try:
        values = frame.to_ndarray()
    except ValueError as error:
        raise ClipError("unreadable", f"samples of format {frame.format.name} cannot be read ({error})") from error
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "u":
        return values.astype(np.float32) - 128, 1 / 128
    return values, 1.0 if values.dtype.kind == "f" else 1 / -float(np.iinfo(values.dtype).min)


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """Mono samples at another rate, by FFmpeg's resampler."""
    if rate == wanted:
        return samples
    av = extra("av")
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=wanted)
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    pieces = [out.to_ndarray()[0] for out in [*resampler.resample(frame), *resampler.resample(None)]]
    return np.concatenate([np.zeros(0, np.float32), *pieces])  # a few samples may give none at a lower rate
