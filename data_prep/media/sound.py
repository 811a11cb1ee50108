"""Decodes the sound of clips: mono, at a wanted rate."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import SLACK, ClipError, audio_stream, extra, open_media, stated_duration

Samples = NDArray[np.float32]
_UNSTATED = 2**31 - 2**20  # bytes; what writes a WAV into a pipe states about 2**31 or 2**32


@dataclass(frozen=True)
class Sound:
    """The sound of a clip.

    Attributes:
        samples: (S,) float32 mono in [-1, 1], the mean over channels.
        rate: samples a second.
        bad_packets: packets that did not decode.
    """

    samples: Samples
    rate: int
    bad_packets: int


def read_audio(path: Path, *, rate: int | None, seconds: float | None = None) -> Sound:
    """Decode the sound of a clip.

    Args:
        path: a WAV file, or a container with an audio stream.
        rate: samples a second to resample to; None keeps the file's.
        seconds: stop after so much; None reads everything.

    Raises:
        ClipError: the file cannot be opened, has no audio stream, no samples, ends before its header
            says, or holds numbers that are not finite.
    """
    bad = 0
    stated: float | None
    pieces, stated = _read_pcm(path)
    if not pieces:
        with open_media(path) as container:
            stream = audio_stream(container)
            stated = stated_duration(container, stream) if stream.duration else None
            pieces, bad = _decode(container, stream, seconds)
    held = sum(len(piece) / own for own, piece in pieces)
    if not held:
        raise ClipError("corrupt" if bad else "too short", f"the sound has no samples, {bad} bad packets")
    if stated is not None and held < min(stated, seconds or stated) - SLACK:
        raise ClipError("corrupt", f"the sound ends after {held:.2f} s of {stated:.2f} s")
    rate = rate or pieces[0][0]
    runs = [(own, np.concatenate([piece for _, piece in run])) for own, run in groupby(pieces, lambda pair: pair[0])]
    samples = np.concatenate([resample(run, own, rate) for own, run in runs])
    if not np.isfinite(samples).all():
        raise ClipError("corrupt", "the sound has samples that are not finite")
    wanted = None if seconds is None else round(seconds * rate)
    return Sound(np.clip(samples[:wanted], -1, 1), rate, bad)


def _read_pcm(path: Path) -> tuple[list[tuple[int, Samples]], float]:
    """(rate, mono samples) of a 16-bit WAV file, and its seconds by the header; nothing if it is anything else.

    FFmpeg takes longer to make sure that a WAV file is one than to decode a few seconds of it, and
    does not tell that it was cut short.
    """
    try:
        with wave.open(str(path), "rb") as stream:
            rate, channels, count = stream.getframerate(), stream.getnchannels(), stream.getnframes()
            content = stream.readframes(count) if stream.getsampwidth() == 2 else b""
    except (wave.Error, EOFError, OSError, ValueError):
        return [], 0.0
    if not content or 2 * channels * count > _UNSTATED:
        return [], 0.0
    held = len(content) // (2 * channels)
    values = np.frombuffer(content, "<i2", count=held * channels).reshape(-1, channels)
    return [(rate, (values.mean(axis=1, dtype=np.float64) / 32768).astype(np.float32))], count / rate


def _decode(container: Any, stream: Any, seconds: float | None) -> tuple[list[tuple[int, Samples]], int]:
    """(rate, mono samples) of each frame, and the number of bad packets."""
    av = extra("av")
    pieces: list[tuple[int, Samples]] = []
    bad, held = 0, 0.0
    packets = _packets(container, stream)
    for packet in packets:
        if packet is None:  # the container is damaged here
            bad += 1
            break
        try:
            frames = packet.decode()
        except av.FFmpegError:
            bad += 1
            continue
        pieces += [(frame.sample_rate, _mono(frame)) for frame in frames if frame.samples]
        held += sum(frame.samples / frame.sample_rate for frame in frames)
        if seconds is not None and held > seconds + SLACK:  # resampling needs a little more
            break
    return pieces, bad


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    av = extra("av")
    try:
        yield from container.demux(stream)
    except av.FFmpegError:
        yield None


def _mono(frame: Any) -> Samples:
    """Mean over the channels of a frame, (S,) float32; integers are scaled to [-1, 1)."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "u":
        values = values.astype(np.float32) - 128
        scale = 1 / 128
    else:
        scale = 1.0 if values.dtype.kind == "f" else 1 / -float(np.iinfo(values.dtype).min)
    mono: Samples = (values.mean(axis=0, dtype=np.float64) * scale).astype(np.float32)
    return mono


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """Mono samples at another rate, by FFmpeg's resampler."""
    if rate == wanted:
        return samples
    av = extra("av")
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=wanted)
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate = rate
    return np.concatenate([out.to_ndarray()[0] for out in [*resampler.resample(frame), *resampler.resample(None)]])
