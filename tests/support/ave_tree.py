"""A small download of AVE: the archive's folders and names, a header in Annotations.txt, videos of four seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.kinetics_tree import COUNTS, clip_id, make_clip

AVE_CLASSES = ("Frying (food)", "Male speech, man speaking", "Violin, fiddle")
WINDOWS = ((0, 10), (1, 3), (2, 10))
"""Start and end of the events of a class's first, second and third video; the videos last four seconds."""

LISTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
HEADER = "Category&VideoID&Quality&StartTime&EndTime"


def line(label: str, video: str, start: int, end: int) -> str:
    return f"{label}&{video}&good&{start}&{end}"


def make_ave(source: Path) -> Path:
    """Write nine, six and three videos with an event each, and the four lists."""
    folder, everything = source / "AVE_Dataset", list[str]()
    for split, count in COUNTS.items():
        rows = []
        for label, name in enumerate(AVE_CLASSES):
            for number in range(count):
                video = clip_id(split, label, number)
                make_clip(folder / "AVE" / f"{video}.mp4", label)
                rows.append(line(name, video, *WINDOWS[number]))
        write_list(folder / LISTS[split], rows)
        everything += rows
    write_list(folder / "Annotations.txt", [HEADER, *everything])
    return source


def write_list(path: Path, rows: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def add_line(source: Path, split: str, row: str) -> None:
    """Add a row to a list of the tree."""
    with (source / "AVE_Dataset" / LISTS[split]).open("a", encoding="utf-8") as stream:
        stream.write(f"{row}\n")
