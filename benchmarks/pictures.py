"""Counts wrong pictures: is frame k of a clip the one that `read_frames` gives for its time?

    python benchmarks/pictures.py CLIP_OR_FOLDER ...

The reference is the order in which the decoder hands frames out. Frame k is asked for half a frame after
its time of presentation if these times rise, else, since they are wrong then, at (k + 1/2) / rate; at a
constant rate without missing frames the two are the same. Twins are successive pictures that are equal
although the decoder's differ. With PYTHONPATH set to another checkout, this counts for the code there.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from data_prep.media import ClipError, read_frames

SIZE = (72, 96)
SUFFIXES = {".avi", ".flv", ".mkv", ".mp4", ".webm"}


def in_order(path: Path) -> tuple[NDArray[np.uint8], list[float]]:
    """All pictures (N, 3, H, W) of a clip in the decoder's order, and the times to ask for them."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream: Any = container.streams.video[0]
        stream.codec_context.thread_count = 1
        pictures, ticks = [], []
        for packet in container.demux(stream):
            try:
                for frame in packet.decode():
                    pictures.append(picture(frame))
                    ticks.append(frame.pts)
            except av.FFmpegError:
                continue
        rate, base = float(stream.average_rate), float(stream.time_base)
    times = [base * (tick - ticks[0]) for tick in ticks]
    if any(after <= before for before, after in pairwise(times)):
        times = [number / rate for number in range(len(ticks))]
    return np.stack(pictures), [time + 0.5 / rate for time in times]


def picture(frame: Any) -> NDArray[np.uint8]:
    """A frame as `read_frames` stores it, (3, H, W), without any orientation."""
    small = frame.reformat(SIZE[1], SIZE[0], format="gbrp", interpolation="AREA")
    planes = [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : SIZE[1]] for plane in small.planes]
    return np.stack([planes[2], planes[0], planes[1]])


def count(path: Path) -> tuple[int, int, int, int]:
    """Frames of a clip; wrong pictures; frames that are refused; twins."""
    expected, times = in_order(path)
    found: list[NDArray[np.uint8] | None] = []
    try:
        found = list(read_frames(path, times, size=SIZE).pixels)
    except ClipError:
        found = [one(path, time) for time in times]
    pairs = list(zip(found, expected, strict=True))
    wrong = sum(got is not None and not np.array_equal(got, right) for got, right in pairs)
    twins = sum(
        got is not None and after is not None and np.array_equal(got, after) and not np.array_equal(right, following)
        for (got, right), (after, following) in pairwise(pairs)
    )
    return len(expected), wrong, sum(got is None for got in found), twins


def one(path: Path, time: float) -> NDArray[np.uint8] | None:
    """The picture of one time; None where it is refused."""
    try:
        return np.asarray(read_frames(path, [time], size=SIZE).pixels[0], np.uint8)
    except ClipError:
        return None


def clips(places: list[Path]) -> list[Path]:
    """All video files at and below some places."""
    found = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*")))]
    return [path for path in found if path.suffix.lower() in SUFFIXES]


def main() -> None:
    """Count, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", type=Path, nargs="+", help="clips, or folders of clips")
    print(f"{'clip':60} frames  wrong  refused  twins")
    for path in clips(parser.parse_args().places):
        try:
            frames, wrong, refused, twins = count(path)
        except (av.FFmpegError, UnicodeError, ValueError) as error:
            print(f"{path.name[:60]:60} {type(error).__name__}: {error}")
            continue
        print(f"{path.name[:60]:60} {frames:6} {wrong:6} {refused:8} {twins:6}")


if __name__ == "__main__":
    main()
