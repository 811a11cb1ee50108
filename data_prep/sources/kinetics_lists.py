"""Which clips of Kinetics-400 belong to Kinetics-Sounds, and to which split.

Three sources are read: the official annotation CSV files, the literature's `my_train.txt` and
`my_test.txt` (lines `<clip>,10,<class index>`), and the literature's JSON with all three splits. A clip
is known by its YouTube id, the first 11 characters of its name: Kinetics takes one clip from a video.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.sources.listfiles import numbered_lines, read_text, safe_parts, shown
from drcli.data.format import SPLITS
from drcli.errors import DataError
from drcli.reading import one_line, parse_json

CLASSES = (
    "blowing nose",
    "blowing out candles",
    "bowling",
    "chopping wood",
    "dribbling basketball",
    "laughing",
    "mowing lawn",
    "playing accordion",
    "playing bagpipes",
    "playing bass guitar",
    "playing clarinet",
    "playing drums",
    "playing guitar",
    "playing harmonica",
    "playing keyboard",
    "playing organ",
    "playing piano",
    "playing saxophone",
    "playing trombone",
    "playing trumpet",
    "playing violin",
    "playing xylophone",
    "ripping paper",
    "shoveling snow",
    "shuffling cards",
    "singing",
    "stomping grapes",
    "tap dancing",
    "tapping guitar",
    "tapping pen",
    "tickling",
)
"""The 31 classes of the literature, in its index order, spelt as in Kinetics-400."""

SUFFIXES = frozenset({".mp4", ".mkv", ".webm"})
"""Of clips, in lower case."""

_INDICES = {str(index): name for index, name in enumerate(CLASSES)}
_SUBSETS = {"train": "training", "val": "validation", "test": "testing"}

# Start and end are padded to six digits by the official download, and left out or unpadded elsewhere.
_CLIP = re.compile(r"(?P<video>[\w-]{11})(?:_(?P<start>\d{1,9})(?:_\d{1,9})?)?", re.ASCII)
_SECONDS = re.compile(r"(\d{1,9})(?:\.0*)?", re.ASCII)


@dataclass(frozen=True)
class Listed:
    """A clip as a list or an annotation file names it.

    Attributes:
        video: YouTube id, 11 characters.
        start: second at which it begins in the video; None if the list does not say.
        label: class name, spelt as in `CLASSES`.
        where: "FILE:LINE" for messages.
    """

    video: str
    start: int | None
    label: str
    where: str


def parse_clip(stem: str) -> tuple[str, int | None] | None:
    """YouTube id and start in seconds of a clip's name without suffix; None if it is not a clip's name.

    An id may begin with dashes and hold underscores, so that it is counted off, not split off.
    """
    match = _CLIP.fullmatch(stem)
    if match is None:
        return None
    start = match["start"]
    return match["video"], None if start is None else int(start)


def read_annotations(path: Path, split: str, classes: tuple[str, ...]) -> list[Listed]:
    """The clips of the chosen classes in an official annotation file.

    Args:
        path: CSV with the columns label, youtube_id, and where present time_start and split.
        split: train, val or test; the file's `split` column must agree.
        classes: names of the classes that are wanted.

    Raises:
        DataError: columns or labels are missing, or a row of these classes is not as expected.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        rows = [(f"{path}:{reader.line_num}", row) for row in reader]
    except csv.Error as error:
        where = f"{path}:{reader.line_num + 1}"
        raise DataError(f"{where}: is not a line of CSV ({error}); correct or remove it") from error
    columns = reader.fieldnames or []
    if "youtube_id" not in columns:
        raise DataError(f"{path}: has no column youtube_id (its header is {shown(', '.join(columns))})")
    if "time_start" not in columns and any("time" in column or "start" in column for column in columns):
        raise DataError(f"{path}: has no column time_start (its header is {shown(', '.join(columns))})")
    clips = []
    for where, row in rows:
        if len(set(columns)) < len(columns) or None in row or None in row.values():
            raise DataError(f"{where}: has not one field for each column of the header; correct or remove the line")
        label = _spelling(row.get("label") or "")
        if not label:
            raise DataError(
                f"{where}: no label, as in some copies of this file; get one with labels, "
                "or name the folder of the literature's lists in dataset.prepare.lists_dir"
            )
        if label in classes:
            clips.append(_annotated(row, label, split, where))
    return clips


def _annotated(row: Mapping[str, Any], label: str, split: str, where: str) -> Listed:
    """One row of an annotation file."""
    video, start, named = (str(row.get(key) or "").strip() for key in ("youtube_id", "time_start", "split"))
    clip = parse_clip(video)
    if clip is None or clip[1] is not None:
        raise DataError(f"{where}: youtube_id {shown(video)} is not an id of 11 characters; correct or remove the line")
    if named and named not in {split, "validate" if split == "val" else split}:
        raise DataError(f"{where}: split is {shown(named)} in the file of {split}; correct or remove the line")
    seconds = _SECONDS.fullmatch(start)
    if start and seconds is None:
        raise DataError(f"{where}: time_start {shown(start)} is not a whole number of seconds; correct the line")
    return Listed(video, int(seconds[1]) if seconds else None, label, where)


def read_list(path: Path, classes: tuple[str, ...]) -> list[Listed]:
    """The clips of a literature list: name first, class index or class name last.

    Args:
        path: lines separated by commas or by white space, with or without a header.
        classes: names besides the 31 that are allowed.

    Raises:
        DataError: a line names no clip, leaves its folder, or has a label outside the set.
    """
    clips = []
    for number, (where, line) in enumerate(numbered_lines(path)):
        fields = [field.strip() for field in (line.split(",") if "," in line else line.split())]
        if number == 0 and fields[-1].lower() in {"label", "class", "class_id"}:
            continue
        if len(fields) < 2:
            raise DataError(f"{where}: {shown(line)} has no label; expected <clip>,10,<class index>")
        clips.append(_listed(fields[0], fields[-1], classes, where))
    return clips


def read_json(path: Path, classes: tuple[str, ...]) -> dict[str, list[Listed]]:
    """The clips of the literature's JSON, by split.

    Args:
        path: an object whose `database` gives `subset` and `label` of each clip.
        classes: names besides the 31 that are allowed.

    Raises:
        DataError: it is not such a file, or a clip is not as expected.
    """
    splits: dict[str, list[Listed]] = {split: [] for split in SPLITS}
    names = {subset: split for split, subset in _SUBSETS.items()}
    try:
        database = parse_json(read_text(path), values=10**7)["database"]
        rows = [(str(name), str(clip["subset"]), str(clip["label"])) for name, clip in database.items()]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: is not the JSON of a clip database ({one_line(error)})") from error
    for name, subset, label in rows:
        if subset not in names:
            raise DataError(f"{path}: {name}: subset is {shown(subset)}; expected one of {', '.join(names)}")
        splits[names[subset]].append(_listed(name, label, classes, f"{path}: {name}"))
    return splits


def _listed(name: str, label: str, classes: tuple[str, ...], where: str) -> Listed:
    """One line of a list: the name may carry folders and a suffix, the label may be an index."""
    stem, suffix = os.path.splitext(safe_parts(name, where)[-1])  # noqa: PTH122 - a name, no path
    clip = parse_clip(stem) if suffix.lower() in {"", *SUFFIXES} else None
    if clip is None:
        raise DataError(f"{where}: {shown(name)} does not begin with a YouTube id of 11 characters; remove the line")
    spelt = _spelling(label)
    if label in _INDICES:
        spelt = _INDICES[label]
    elif spelt not in {*CLASSES, *classes}:
        raise DataError(f"{where}: label {shown(label)} is neither a class nor an index from 0 to {len(CLASSES) - 1}")
    return Listed(*clip, spelt, where)


def _spelling(label: str) -> str:
    return label.strip().replace("_", " ")
