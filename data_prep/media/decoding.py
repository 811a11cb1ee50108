"""Decodes a video stream, and tells when each of its frames is shown.

A decoder hands frames out in the order of presentation, but the times it hands out with them may be
wrong. AVI has no times of presentation: FFmpeg derives them, and where two pictures are packed in one
chunk, as DivX and XviD do with B-frames, they run 1, 2, 4, 3, 5, 7, 6. Then the times of decoding
count, which rise by one from each frame that is handed out to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

from data_prep.media.container import extra
from data_prep.media.length import nominal

Clock = Literal["presentation", "decoding"]
_AHEAD = 2  # frames that are looked at before one is trusted to be the next


class OutOfOrderError(Exception):
    """Times of presentation fall from one frame to the next, so that they are not its times."""


def likely_clock(container: Any, stream: Any) -> Clock:
    """The clock that a stream is likely to need; the one of presentation shows itself where it is wrong."""
    is_derived = container.format.name == "avi" and stream.codec_context.has_b_frames
    return "decoding" if is_derived else "presentation"


class Decoding:
    """Decodes a stream once.

    Attributes:
        bad_packets: times of the packets that did not decode, in seconds of the stream's clock; None
            where a packet has no time.
        damaged: likewise of the frames that decoded with errors.
        nominal: seconds from one frame to the next, as the file says.
        count: frames that were decoded so far, damaged ones included.
    """

    def __init__(self, container: Any, stream: Any, clock: Clock = "presentation") -> None:
        self._container = container
        self._stream = stream
        self._clock = clock
        self._base = float(stream.time_base or 1)
        self._origin: float | None = None  # time of the first frame
        self._first: float | None = None  # time at which the first packet is decoded
        self._lead: float | None = None  # time from the first packet to the first frame, both of decoding
        self.bad_packets: list[float | None] = []
        self.damaged: list[float | None] = []
        self.nominal = nominal(stream)
        self.count = 0

    @property
    def _has_b_frames(self) -> bool:
        return bool(self._stream.codec_context.has_b_frames)

    def gaps(self) -> list[float]:
        """Times of what did not decode cleanly, in seconds from the first frame.

        Damaged frames before the first clean one are not a gap: a clip may begin between key frames.
        """
        if self._origin is None:
            return []
        missing = [time - self._origin for time in (*self.bad_packets, *self.damaged) if time is not None]
        if self._clock == "presentation":
            return missing
        # The picture of a packet is shown so much later, or up to a frame after that; the one that is packed
        # with it, a frame before. A mark where a frame is shown nevertheless does no harm.
        lead = self._lead or 0.0
        return [time + late for time in missing for late in (-self.nominal, 0.0, lead, lead + self.nominal)]

    def frames(self) -> Iterator[tuple[float, Any]]:
        """Time from the first frame, in seconds and never falling, and the frame; in order of presentation.

        Raises:
            OutOfOrderError: on the clock of presentation, where it is wrong.
        """
        if self._clock == "decoding":
            return self._by_decoding()
        frames = self._by_presentation()
        return _delayed(frames, _AHEAD) if self._has_b_frames else frames

    def started(self) -> Iterator[tuple[float, Any]]:
        """The same as `frames`, after the first one has been decoded, so that `lag` is known."""
        frames = self.frames()
        first = next(frames, None)
        return iter(()) if first is None else chain([first], frames)

    def _by_presentation(self) -> Iterator[tuple[float, Any]]:
        last, latest = -self.nominal, float("-inf")
        for frame in self._clean():
            seconds = frame.time
            if seconds is None:
                last += self.nominal
            elif seconds < latest:
                self._check_order(seconds)
                continue
            else:
                latest = seconds
                last = max(last, seconds - self._begin(seconds))
            yield last, frame

    def _by_decoding(self) -> Iterator[tuple[float, Any]]:
        last = -self.nominal
        for frame in self._clean():
            seconds = self._seconds(frame.dts)
            following = last + self.nominal
            # The last frames have no time of decoding, and that of a joined file may begin anew.
            time = following if seconds is None else seconds - self._begin(seconds)
            last = time if time > last else following
            yield last, frame

    def _begin(self, seconds: float) -> float:
        """The time of the first frame, which this one is unless there is one already."""
        if self._origin is None:
            late = self.nominal if self._clock == "decoding" and self._has_b_frames else 0.0
            self._origin = min([seconds, *(time + late for time in self.bad_packets if time is not None)])
        return self._origin

    def _check_order(self, seconds: float) -> None:
        """A frame was handed out late: times are wrong, or, after damage, the frame."""
        is_damaged = bool(self.bad_packets or self.damaged)
        if not is_damaged or self._container.format.name == "avi":
            raise OutOfOrderError
        self.damaged.append(seconds)

    @property
    def lag(self) -> float:
        """Seconds before the first picture that neither the order of decoding nor damage explains.

        DivX writes an empty chunk for each picture by which it looks ahead. Other codecs have none, and
        reorder by more than the one frame of MPEG-4.
        """
        if self._clock == "presentation" or self.bad_packets or self._stream.codec_context.name != "mpeg4":
            return 0.0
        lag = (self._lead or 0.0) - (self.nominal if self._has_b_frames else 0.0)
        return lag if lag > self.nominal / 2 else 0.0

    def _clean(self) -> Iterator[Any]:
        """Frames without damage."""
        for frame in self.decoded():
            self.count += 1
            if frame.is_corrupt:
                ticks = frame.pts if self._clock == "presentation" else frame.dts
                self.damaged.append(self._seconds(ticks))
                continue
            if self._lead is None and self._first is not None and frame.dts is not None:
                self._lead = frame.dts * self._base - self._first
            yield frame

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
            if self._first is None:
                self._first = self._seconds(packet.dts)
            try:
                yield from packet.decode()
            except av.FFmpegError:
                self.bad_packets.append(self._packet_time(packet))

    def _packet_time(self, packet: Any) -> float | None:
        first, second = packet.pts, packet.dts
        if self._clock == "decoding":
            first, second = second, first
        return self._seconds(first if first is not None else second)

    def _seconds(self, ticks: int | None) -> float | None:
        return None if ticks is None else ticks * self._base


def _delayed(frames: Iterator[tuple[float, Any]], ahead: int) -> Iterator[tuple[float, Any]]:
    """The same frames, each when so many later ones are known."""
    held: deque[tuple[float, Any]] = deque()
    for pair in frames:
        held.append(pair)
        if len(held) > ahead:
            yield held.popleft()
    yield from held
