"""How long the video of a clip lasts: its header and the times of its packets; nothing is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.media.container import SLACK, extra, open_media, stated_duration, video_stream

_DEFAULT_RATE = 25.0  # frames a second where a file states none


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
        ClipError: the file cannot be opened, or has no video.
    """
    with open_media(path) as container:
        stream = video_stream(container)
        # A stream must not be asked anything once its container is closed.
        index, step, has_own = stream.index, nominal(stream), bool(stream.duration)
        stated = stated_duration(container, stream)
        is_whole = container.format.name == "avi" and not _is_cut(path)
        spans = _spans(container)
    first, last = spans.get(index, (0.0, -step))
    measured = last - first + step
    if stated is None or is_whole:
        return measured
    # Without a duration of its own, that of all streams is stated.
    held = measured if has_own else max((end for _, end in spans.values()), default=0.0) + step
    if held < stated - SLACK - step:
        return stated
    return stated if has_own and measured < stated + SLACK + step else measured


def _is_cut(path: Path) -> bool:
    """Whether a RIFF file is shorter than its first eight bytes say."""
    with path.open("rb") as stream:
        head = stream.read(8)
    return 8 + int.from_bytes(head[4:], "little") > path.stat().st_size


def _spans(container: Any) -> dict[int, tuple[float, float]]:
    """First and last time of each stream's packets, in seconds, by the index of the stream."""
    av = extra("av")
    spans: dict[int, tuple[int, int]] = {}
    try:
        for packet in container.demux():
            time = packet.pts if packet.pts is not None else packet.dts
            if time is not None and not packet.is_discard:
                first, last = spans.get(packet.stream_index, (time, time))
                spans[packet.stream_index] = (min(first, time), max(last, time))
    except av.FFmpegError:
        pass  # what is missing is found when it is decoded
    bases = {index: float(container.streams[index].time_base) for index in spans}
    return {index: (first * bases[index], last * bases[index]) for index, (first, last) in spans.items()}
