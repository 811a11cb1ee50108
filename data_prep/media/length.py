"""How long the video of a clip lasts: its header and the times of its packets; nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.media.container import SLACK, ClipError, extra, open_media, stated_duration, video_stream
from data_prep.media.riff import indexed_pictures, is_cut

_DEFAULT_RATE = 25.0  # frames per second where a file states none


def nominal(stream: Any) -> float:
    """Seconds from one frame to the next, as the file says."""
    rate = stream.average_rate or stream.guessed_rate
    return 1 / float(rate) if rate else 1 / _DEFAULT_RATE


def video_seconds(path: Path) -> float:
    """Seconds of a clip's video.

    A header that states more than the file holds is believed, since the file was cut off; one that
    states less is not. An AVI file says how many bytes it has: if it has them, its packets count, and
    not the number of frames that its header states.

    Raises:
        ClipError: the file cannot be opened, or has no video; an AVI file has lost chunks that its index
            lists, so that the times of the others are unknown.
    """
    with open_media(path) as container:
        stream = video_stream(container)
        # A stream must not be asked anything once its container is closed.
        index, step, has_own = stream.index, nominal(stream), bool(stream.duration)
        stated = stated_duration(container, stream)
        is_avi = container.format.name == "avi"
        spans = _spans(container)
    span = spans.get(index, _Span(0.0, -step, 0))
    measured = span.last - span.first + step
    if is_avi and not is_cut(path):
        _check_index(path, index, span)
        return measured
    if stated is None:
        return measured
    # Without a duration of its own, that of all streams is stated.
    held = measured if has_own else max((other.last for other in spans.values()), default=0.0) + step
    if held < stated - SLACK - step:
        return stated
    return stated if has_own and measured < stated + SLACK + step else measured


def _check_index(path: Path, index: int, span: _Span) -> None:
    listed = indexed_pictures(path, index)
    lost = listed - span.packets
    if lost > 0:
        raise ClipError("corrupt", f"{lost} of {listed} chunks of pictures are not where they should be")


@dataclass(frozen=True)
class _Span:
    """First and last time of a stream's packets, in seconds, and how many there are."""

    first: float
    last: float
    packets: int


def _spans(container: Any) -> dict[int, _Span]:
    """The span of each stream, by its index."""
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
    return {n: _Span(min(times) * bases[n], max(times) * bases[n], len(times)) for n, times in ticks.items()}
