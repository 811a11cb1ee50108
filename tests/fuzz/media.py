"""Damaged and hostile media files: a clip is read, or refused with a reason, in bounded memory."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from hypothesis import strategies as st
from support.media import make_packed, make_video, make_wav, tone

from data_prep.media import REASONS, ClipError, frame_times, probe, read_audio, read_frames
from data_prep.media.limits import MAX_SAMPLES

Verdict = Literal["accepted", "refused"]

SIZE = (16, 24)
MEMORY = 1024  # MiB by which one input may raise the peak of the process
_FIELDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 16001, 44100)


@cache
def seeds() -> tuple[bytes, ...]:
    """Small valid files: WAV of integers, AVI with packed pictures, MP4, MKV and FLV, most of them with sound."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        paths = [
            make_wav(place / "a.wav", tone(0.1, 8000), rate=8000),
            make_wav(place / "b.wav", tone(0.1, 8000), rate=8000, channels=2),
            make_packed(place / "a.avi", count=7, size=SIZE),
            make_video(place / "b.avi", codec="mpeg4", seconds=0.3, size=SIZE, audio="pcm_s16le", audio_rate=8000),
            make_video(place / "a.mp4", seconds=0.3, size=SIZE, audio="aac", audio_rate=16000),
            make_video(place / "b.mp4", seconds=0.3, size=SIZE, faststart=True, rotation=90),
            make_video(place / "a.mkv", seconds=0.3, size=SIZE, audio="libopus", audio_rate=16000),
            make_video(place / "a.flv", codec="flv", seconds=0.3, size=SIZE, audio="libmp3lame"),
        ]
        return tuple(path.read_bytes() for path in paths)


Change = Callable[[bytearray], None]


def _flip(share: float, bit: int) -> Change:
    def change(content: bytearray) -> None:
        if content:
            content[int(share * (len(content) - 1))] ^= 1 << bit

    return change


def _field(share: float, value: int, width: int, order: Literal["little", "big"]) -> Change:
    def change(content: bytearray) -> None:
        start = int(share * len(content))
        content[start : start + width] = (value % 256**width).to_bytes(width, order)

    return change


def _cut(share: float) -> Change:
    def change(content: bytearray) -> None:
        del content[int(share * len(content)) :]

    return change


def _move(start: float, length: int, target: float) -> Change:
    def change(content: bytearray) -> None:
        first = int(start * len(content))
        piece = content[first : first + length]
        content[int(target * len(content)) : int(target * len(content))] = piece

    return change


def _remove(start: float, length: int) -> Change:
    def change(content: bytearray) -> None:
        first = int(start * len(content))
        del content[first : first + length]

    return change


def _changes() -> st.SearchStrategy[Change]:
    share = st.floats(0, 1)
    early = st.floats(0, 0.2)  # headers
    anywhere = share | early
    return st.one_of(
        st.builds(_flip, anywhere, st.integers(0, 7)),
        st.builds(
            _field,
            anywhere,
            st.sampled_from(_FIELDS) | st.integers(0, 2**32 - 1),
            st.sampled_from((1, 2, 4)),
            st.sampled_from(("little", "big")),
        ),
        st.builds(_cut, share),
        st.builds(_move, share, st.integers(1, 200), share),
        st.builds(_remove, share, st.integers(1, 200)),
    )


def _changed(content: bytes, changes: list[Change]) -> bytes:
    result = bytearray(content)
    for change in changes:
        change(result)
    return bytes(result)


def inputs() -> st.SearchStrategy[bytes]:
    """Contents of files: small valid ones with a few changes, and now and then anything."""
    changed = st.builds(_changed, st.sampled_from(range(8)).map(lambda i: seeds()[i]), st.lists(_changes(), max_size=4))
    return st.one_of(changed, changed, changed, st.binary(max_size=200))


def check(data: bytes, folder: Path) -> Verdict:
    """Read a file in every way.

    Raises:
        AssertionError: a result is not what it should be, or took too much memory.
        Exception: anything but a `ClipError`, which is a fault.
    """
    path = folder / "clip.bin"
    path.write_bytes(data)
    before = _peak()
    verdicts = [_sound(path), _pictures(path), _header(path)]
    assert _peak() - before < MEMORY, "too much memory"
    return "accepted" if "accepted" in verdicts[:2] else "refused"


def _sound(path: Path) -> Verdict:
    try:
        sound = read_audio(path, rate=16000)
    except ClipError as error:
        return _refused(error)
    assert sound.samples.dtype == np.float32
    assert 0 < len(sound.samples) <= MAX_SAMPLES
    assert np.abs(sound.samples).max() <= 1
    return "accepted"


def _pictures(path: Path) -> Verdict:
    try:
        frames = read_frames(path, lambda seconds: frame_times(seconds, count=3), size=SIZE)
    except ClipError as error:
        return _refused(error)
    assert frames.pixels.shape == (3, 3, *SIZE)
    assert frames.pixels.dtype == np.uint8
    return "accepted"


def _header(path: Path) -> Verdict:
    try:
        info = probe(path)
    except ClipError as error:
        return _refused(error)
    assert info.has_audio or info.video_codec
    return "accepted"


def _refused(error: ClipError) -> Verdict:
    assert error.reason in REASONS
    assert error.detail
    return "refused"


def _peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
