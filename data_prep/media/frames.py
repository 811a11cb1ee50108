"""Decodes pictures of clips at wanted times.

Time 0 is the first frame that is shown. Frames are found by the time at which they are shown, never by
their number: clips have variable frame rates, and containers that state neither rate nor duration.
Packets are decoded one at a time, so that a bad one costs its own frames only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import SLACK, ClipError, extra, open_media, orientation_of, video_stream
from data_prep.media.decoding import Clock, Decoding, OutOfOrderError, likely_clock
from data_prep.media.length import video_seconds
from data_prep.media.orientation import Orientation

Times = Callable[[float], Sequence[float]] | Sequence[float]


@dataclass(frozen=True)
class Frames:
    """Pictures of a clip.

    Attributes:
        pixels: (T, 3, H, W) uint8 RGB, upright, in the order of the wanted times.
        bad_packets: packets that did not decode, up to the last wanted time.
        duration: seconds of the video.
        damaged: frames that decoded with errors, up to there.
        decoded: frames that decoded, up to there or, where all were asked for, up to the end.
        stated: frames that the header states; 0: it states none.
    """

    pixels: NDArray[np.uint8]
    bad_packets: int
    duration: float
    damaged: int = 0
    decoded: int = 0
    stated: int = 0


def frame_times(duration: float, *, rate: float | None = None, count: int | None = None) -> list[float]:
    """Times in seconds within a clip: every 1 / rate from 0, or the centres of `count` equal segments.

    Args:
        duration: of the clip, in seconds.
        rate: times per second; those below `duration` are returned.
        count: how many; centre i is (i + 1/2) / count * duration.
    """
    assert (rate is None) != (count is None)
    if count is not None:
        return [(index + 0.5) * duration / count for index in range(count)]
    assert rate is not None
    return [index / rate for index in range(max(1, int(np.ceil(duration * rate - 1e-6))))]


def read_frames(path: Path, times: Times, *, size: tuple[int, int], to_end: bool = False) -> Frames:
    """Decode the frames that are shown at the wanted times.

    Of each wanted time this is the last frame shown at or before it. Memory holds the wanted pictures
    and a few decoded ones, however long the clip is; decoding stops after the last wanted time.

    Args:
        path: the file.
        times: seconds from the first frame, in any order; or a function of the duration in seconds.
        size: height and width that pictures are resized to, by area.
        to_end: decode the frames after the last wanted time too, so that all are counted.

    Raises:
        ClipError: the file cannot be opened or has no video; a wanted time is missing, since the stream
            ends more than a frame and 0.25 s before it, or the frame of that time did not decode; its
            display matrix is neither a turn by right angles nor one of a mirror image.
    """
    duration = video_seconds(path)
    try:
        return _read(path, times, duration, size, to_end=to_end)
    except OutOfOrderError:
        return _read(path, times, duration, size, to_end=to_end, clock="decoding")


def _read(
    path: Path,
    times: Times,
    duration: float,
    size: tuple[int, int],
    *,
    to_end: bool,
    clock: Clock | None = None,
) -> Frames:
    with open_media(path) as container:
        stream = video_stream(container)
        decoding = Decoding(container, stream, clock or likely_clock(container, stream))
        frames = decoding.started()
        duration = max(0.0, duration - decoding.lag)
        wanted = list(times(duration) if callable(times) else times)
        assert all(time >= 0 for time in wanted)
        chosen = _choose(decoding, frames, sorted(set(wanted)), _Resizer(size))
        _check_gaps(chosen, decoding.gaps())
        if to_end:
            deque(frames, maxlen=0)
        stated = int(stream.frames)
    pixels = np.stack([chosen[time].pixels for time in wanted])
    return Frames(pixels, len(decoding.bad_packets), duration, len(decoding.damaged), decoding.count, stated)


@dataclass(frozen=True)
class _Shown:
    """The picture of a wanted time, and when it was shown first."""

    time: float
    pixels: NDArray[np.uint8]


class _Resizer:
    """Makes a frame an RGB picture (3, H, W) of a fixed size, upright."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._reformatter = extra("av.video.reformatter").VideoReformatter()  # keeps its tables between frames
        self._last: tuple[int, Orientation] | None = None

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        orientation = self._orientation(frame)
        height, width = self._size if orientation.turns % 2 == 0 else self._size[::-1]
        small = self._reformatter.reformat(frame, width, height, format="gbrp", interpolation="AREA", threads=1)
        green, blue, red = (
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width] for plane in small.planes
        )
        return orientation.apply(np.stack([red, green, blue]))

    def _orientation(self, frame: Any) -> Orientation:
        """That of the frame; it is looked up, which takes long, for the first one and where it changes."""
        if self._last is None or self._last[0] != frame.rotation:
            self._last = frame.rotation, orientation_of(frame)
        return self._last[1]


def _choose(
    decoding: Decoding, frames: Iterator[tuple[float, Any]], wanted: Sequence[float], resize: _Resizer
) -> dict[float, _Shown]:
    """The picture of each wanted time; `wanted` ascends."""
    chosen: dict[float, _Shown] = {}
    before: tuple[float, Any] | None = None
    for time, frame in frames:
        due = [w for w in wanted[len(chosen) :] if w < time]
        chosen.update(_convert(due, before or (time, frame), resize))
        if len(chosen) == len(wanted):
            return chosen
        before = time, frame
    if before is None:
        if decoding.bad_packets or decoding.damaged:
            raise ClipError("corrupt", f"none of its frames decodes, {len(decoding.bad_packets)} bad packets")
        raise ClipError("too short", "the video has no frames")
    end = before[0] + max(decoding.nominal, _shown_for(before[1]))
    late = [w for w in wanted[len(chosen) :] if w > end + SLACK]
    if late:
        raise ClipError("corrupt", f"the picture at {late[0]:.2f} s is missing, the video ends at {end:.2f} s")
    return chosen | _convert(wanted[len(chosen) :], before, resize)


def _convert(due: Sequence[float], shown: tuple[float, Any], resize: _Resizer) -> dict[float, _Shown]:
    if not due:
        return {}
    picture = _Shown(shown[0], resize(shown[1]))
    return dict.fromkeys(due, picture)


def _check_gaps(chosen: dict[float, _Shown], gaps: Sequence[float]) -> None:
    """Refuse a wanted time whose own frame did not decode, so that an older one takes its place."""
    for wanted, shown in chosen.items():
        if any(shown.time < time <= wanted for time in gaps) or any(time <= wanted < shown.time for time in gaps):
            raise ClipError("corrupt", f"the picture at {wanted:.2f} s did not decode")


def _shown_for(frame: Any) -> float:
    return float(frame.duration * frame.time_base) if frame.duration else 0.0
