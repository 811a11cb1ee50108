"""A small download of Kinetics-400 in the official layout, with true names, containers and codecs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.media import make_video

CLASSES = ("bowling", "playing accordion", "tap dancing")
COUNTS = {"train": 3, "val": 2, "test": 1}  # clips of each class


def clip_id(split: str, label: int, number: int) -> str:
    """A YouTube id of 11 characters, with a dash in front and underscores, as real ones may have."""
    return f"-{split[:2]}_{label}__{number:02d}-A"


def file_name(video: str, start: int = 58, seconds: int = 10) -> str:
    return f"{video}_{start:06d}_{start + seconds:06d}.mp4"


def annotation(rows: Sequence[Sequence[Any]], header: Sequence[str] | None = None) -> str:
    """A CSV text as the official files have it: only labels with a space are quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header or ("label", "youtube_id", "time_start", "time_end", "split", "is_cc"))
    lines = [",".join(f'"{field}"' if " " in str(field) else str(field) for field in row) for row in rows]
    return out.getvalue() + "".join(f"{line}\n" for line in lines)


def make_clip(path: Path, label: int = 0, *, seconds: float = 4.0, audio: str | None = "aac", **options: Any) -> Path:
    """An MP4, H.264 and AAC; the class shows as a tint and sounds as a pitch."""
    return make_video(
        path, seconds=seconds, rate=10, audio=audio, shade=10 * label, frequency=300.0 * (label + 1), **options
    )


def make_kinetics(
    source: Path,
    *,
    layout: str = "flat",
    classes: Sequence[str] = CLASSES,
    counts: Mapping[str, int] = COUNTS,
    **options: Any,
) -> Path:
    """Write clips and annotations, and rows of a class that is not wanted.

    Args:
        source: folder to make.
        layout: "flat" for <split>/<clip>.mp4, "classes" for videos/<split>/<class>/<clip>.mp4.
        classes: names; the index in here tints and tunes the clips.
        counts: clips of each class by split.
        options: of `make_clip`.
    """
    for split, count in counts.items():
        rows: list[Sequence[Any]] = [("abseiling", f"{split[:2]}-ABSEILxx", 0, 10, split, 0)]
        for label, name in enumerate(classes):
            for number in range(count):
                video = clip_id(split, label, number)
                folder = source / split if layout == "flat" else source / "videos" / split / name
                make_clip(folder / file_name(video), label, **options)
                rows.append((name, video, 58, 68, split, 0))
        (source / "annotations").mkdir(parents=True, exist_ok=True)
        (source / "annotations" / f"{split}.csv").write_text(annotation(rows), encoding="utf-8")
    return source


def make_lists(folder: Path, *, classes: Mapping[str, int], counts: Mapping[str, int] = COUNTS) -> Path:
    """The literature's my_train.txt and my_test.txt over the same clips, class indices of the 31 given by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        lines = []
        for label, index in enumerate(classes.values()):
            for number in range(counts[split]):
                video = clip_id(split, label, number)
                name = f"{video}_58" if split == "test" else file_name(video).removesuffix(".mp4")
                lines.append(f"{name},10,{index}\r\n")
        (folder / f"my_{split}.txt").write_text("".join(lines), encoding="utf-8", newline="")
    return folder
