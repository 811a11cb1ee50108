"""Decodes pictures of clips at wanted times.

Time 0 is the first frame that is shown. Frames are found by their time of presentation, never by
their number: clips have variable frame rates, and containers that state neither rate nor duration.
Packets are decoded one at a time, so that a bad one costs its own frames only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import SLACK, ClipError, extra, open_media, stated_duration, video_stream

Times = Callable[[float], Sequence[float]] | Sequence[float]
_DEFAULT_RATE = 25.0  # frames a second where a file states none


@dataclass(frozen=True)
class Frames:
    """Pictures of a clip.

    Attributes:
        pixels: (T, 3, H, W) uint8 RGB, upright, in the order of the wanted times.
        bad_packets: packets that did not decode, up to the last wanted time.
        duration: seconds of the video.
        damaged: frames that decoded with errors, up to there.
    """

    pixels: NDArray[np.uint8]
    bad_packets: int
    duration: float
    damaged: int = 0


def frame_times(duration: float, *, rate: float | None = None, count: int | None = None) -> list[float]:
    """Times in seconds within a clip: every 1 / rate from 0, or the centres of `count` equal segments.

    Args:
        duration: of the clip, in seconds.
        rate: times a second; those below `duration` are returned.
        count: how many; centre i is (i + 1/2) / count * duration.
    """
    assert (rate is None) != (count is None)
    if count is not None:
        return [(index + 0.5) * duration / count for index in range(count)]
    assert rate is not None
    return [index / rate for index in range(max(1, int(np.ceil(duration * rate - 1e-6))))]


def read_frames(path: Path, times: Times, *, size: tuple[int, int]) -> Frames:
    """Decode the frames that are shown at the wanted times.

    Of each wanted time this is the last frame shown at or before it. Memory holds the wanted pictures
    and a few decoded ones, whatever the length of the clip; decoding stops after the last wanted time.

    Args:
        path: the file.
        times: seconds from the first frame, in any order; or a function of the duration in seconds.
        size: height and width that pictures are resized to, by area.

    Raises:
        ClipError: the file cannot be opened or has no video; a wanted time is missing, since the stream
            ends more than a frame and 0.25 s before it, or the frame of that time did not decode.
    """
    duration = _duration(path)
    wanted = list(times(duration) if callable(times) else times)
    assert all(time >= 0 for time in wanted)
    with open_media(path) as container:
        stream = video_stream(container)
        decoding = Decoding(container, stream)
        chosen = _choose(decoding, sorted(set(wanted)), _Resizer(size))
        _check_gaps(chosen, decoding.gaps())
    pixels = np.stack([chosen[time].pixels for time in wanted])
    return Frames(pixels, len(decoding.bad_packets), duration, len(decoding.damaged))


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

    def __call__(self, frame: Any) -> NDArray[np.uint8]:
        turns = round(frame.rotation / 90) % 4
        height, width = self._size if turns % 2 == 0 else self._size[::-1]
        small = self._reformatter.reformat(frame, width, height, format="gbrp", interpolation="AREA", threads=1)
        green, blue, red = (
            np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width] for plane in small.planes
        )
        return np.rot90(np.stack([red, green, blue]), turns, axes=(1, 2))


class Decoding:
    """Decodes a stream once.

    Attributes:
        bad_packets: presentation times of the packets that did not decode, in seconds of the stream's
            clock; None where a packet has no time.
        damaged: likewise of the frames that decoded with errors.
        nominal: seconds from one frame to the next, as the file says.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._container = container
        self._stream = stream
        self._origin: float | None = None
        self.bad_packets: list[float | None] = []
        self.damaged: list[float | None] = []
        self.nominal = _nominal(stream)

    def gaps(self) -> list[float]:
        """Times of what did not decode cleanly, in seconds from the first frame.

        Damaged frames before the first clean one are no gap: a clip may begin between key frames.
        """
        missing = [time for time in (*self.bad_packets, *self.damaged) if time is not None]
        return [time - self._origin for time in missing if self._origin is not None]

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Time from the first frame, in seconds and never falling, and the frame; in order of presentation."""
        last = -self.nominal
        for frame in self.decoded():
            seconds = frame.time
            if frame.is_corrupt:
                self.damaged.append(seconds)
                continue
            if self._origin is None and seconds is not None:
                self._origin = min([seconds, *(time for time in self.bad_packets if time is not None)])
            last = last + self.nominal if seconds is None else max(last, seconds - (self._origin or 0.0))
            yield last, frame

    def decoded(self) -> Iterator[Any]:
        """Every frame that the decoder gives, damaged ones too."""
        av = extra("av")
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # the container is damaged here, and nothing after it can be found
                self.bad_packets.append(None)
                return
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self.bad_packets.append(_packet_time(packet))


def _choose(decoding: Decoding, wanted: Sequence[float], resize: _Resizer) -> dict[float, _Shown]:
    """The picture of each wanted time; `wanted` ascends."""
    chosen: dict[float, _Shown] = {}
    before: tuple[float, Any] | None = None
    for time, frame in decoding.frames():
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
    """Refuse a wanted time whose own frame did not decode, so that an older one stands in its place."""
    for wanted, shown in chosen.items():
        if any(shown.time < time <= wanted for time in gaps) or any(time <= wanted < shown.time for time in gaps):
            raise ClipError("corrupt", f"the picture at {wanted:.2f} s did not decode")


def _shown_for(frame: Any) -> float:
    return float(frame.duration * frame.time_base) if frame.duration else 0.0


def _packet_time(packet: Any) -> float | None:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else float(ticks * packet.time_base)


def _nominal(stream: Any) -> float:
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 1 / _DEFAULT_RATE


def _duration(path: Path) -> float:
    """Seconds of a clip's video, from its header and the times of its packets; nothing is decoded.

    A header that states more than the file holds is believed, since the file was cut off; one that
    states less is not.
    """
    with open_media(path) as container:
        stream = video_stream(container)
        # A stream must not be asked anything once its container is closed.
        index, nominal, has_own = stream.index, _nominal(stream), bool(stream.duration)
        stated = stated_duration(container, stream)
        spans = _spans(container)
    first, last = spans.get(index, (0.0, -nominal))
    measured = last - first + nominal
    if stated is None:
        return measured
    # Without a duration of its own, that of all streams is stated.
    held = measured if has_own else max((end for _, end in spans.values()), default=0.0) + nominal
    if held < stated - SLACK - nominal:
        return stated
    return stated if has_own and measured < stated + SLACK + nominal else measured


def _spans(container: Any) -> dict[int, tuple[float, float]]:
    """First and last time of each stream's packets, in seconds, by the index of the stream."""
    av = extra("av")
    ticks: dict[int, list[int]] = {}
    try:
        for packet in container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and not packet.is_discard:
                ticks.setdefault(packet.stream_index, []).append(time)
    except av.FFmpegError:
        pass  # what is missing is found when it is decoded
    bases = {index: float(container.streams[index].time_base) for index in ticks}
    return {index: (min(times) * bases[index], max(times) * bases[index]) for index, times in ticks.items()}
