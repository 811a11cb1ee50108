"""The lists and file names of VGGSound.

`vggsound.csv` has no header and four columns: YouTube id, start second, label, `train` or `test`. `train.csv` and
`test.csv` have two: name of the clip, label. Labels with a comma are quoted. One video may give several clips, so
that a clip is known by its id and its start. Three grammars of names are in use for the same clip::

    ---g-f_I2yQ_000001          the official one: start, six digits
    v---g-f_I2yQ_1_11           TCMax: start and end, as they are
    ---g-f_I2yQ_1000_11000      SpecVQGAN and SparseSync: start and end in milliseconds
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.files.folders import find_files, find_named
from data_prep.sources.kinetics_lists import SUFFIXES
from data_prep.sources.listfiles import check_video, numbered_lines, read_text, refuse_doubles, safe_parts, shown
from drcli.errors import DataError

CLASSES = 309
"""How many the official lists have."""
CLIP_SECONDS = 10

_NAMES = (
    re.compile(r"(?P<video>[\w-]{11})_(?P<start>\d{1,6})", re.ASCII),
    re.compile(r"v?(?P<video>[\w-]{11})_(?P<start>\d{1,9})_(?P<end>\d{1,9})", re.ASCII),
)
_SECOND = re.compile(r"\d{1,6}", re.ASCII)
_WHOLE, _TRAIN, _TEST = "vggsound.csv", "train.csv", "test.csv"

Key = tuple[str, int]
"""YouTube id and start second."""


@dataclass(frozen=True)
class Listed:
    """A clip of a list.

    Attributes:
        video: YouTube id, 11 characters.
        start: second of the video at which it begins.
        label: its class.
        where: "FILE:LINE" for messages.
    """

    video: str
    start: int
    label: str
    where: str

    @property
    def id(self) -> str:
        """Its official name, without suffix."""
        return f"{self.video}_{self.start:06d}"

    @property
    def key(self) -> Key:
        """What it is known by."""
        return self.video, self.start


def parse_clip(stem: str) -> Key | None:
    """YouTube id and start second of a clip's name in any of the three grammars; None for other names.

    With an end in it, the name is in seconds if the clip lasts `CLIP_SECONDS` at most, else in milliseconds.
    """
    for pattern in _NAMES:
        match = pattern.fullmatch(stem)
        if match:
            start, end = int(match["start"]), match.groupdict().get("end")
            is_fine = end is not None and int(end) - start > CLIP_SECONDS
            return match["video"], start // 1000 if is_fine else start
    return None


def list_paths(source: Path, lists: Path | None) -> dict[str, Path]:
    """The lists that are there: {"all": vggsound.csv}, or {"train": train.csv, "test": test.csv}.

    Args:
        source: folder of the download.
        lists: folder of the lists; None: they are in the download, or in `data` there, as in the repository.

    Raises:
        DataError: neither is there.
    """
    for folder in [lists] if lists else [source, source / "data"]:
        whole = find_named(folder, _WHOLE)
        if whole:
            return {"all": whole}
        train, test = find_named(folder, _TRAIN), find_named(folder, _TEST)
        if train and test:
            return {"train": train, "test": test}
    raise DataError(
        f"{lists or source}: holds neither {_WHOLE} nor {_TRAIN} and {_TEST}; get {_WHOLE} from VGGSound's page, and "
        "put it there, or name its folder in dataset.prepare.lists_dir"
    )


def read_splits(paths: Mapping[str, Path]) -> dict[str, list[Listed]]:
    """The clips of train and test, ordered by id and start.

    Raises:
        DataError: a line is not as expected, a clip is listed twice, or a split has none.
    """
    splits: dict[str, list[Listed]] = {"train": [], "test": []}
    for name, path in paths.items():
        for split, clip in _read_whole(path) if name == "all" else ((name, clip) for clip in read_list(path)):
            splits[split].append(clip)
    refuse_doubles((clip.id, clip.where) for clips in splits.values() for clip in clips)
    for split, clips in splits.items():
        if not clips:
            raise DataError(f"{paths.get('all') or paths[split]}: lists no clip of {split}")
    return {split: sorted(clips, key=lambda clip: clip.key) for split, clips in splits.items()}


def read_list(path: Path) -> list[Listed]:
    """The clips of train.csv or test.csv: name, label.

    Raises:
        DataError: a line is not as expected.
    """
    return [_clip(name, label, where) for where, (name, label) in _rows(path, 2)]


def _read_whole(path: Path) -> Iterator[tuple[str, Listed]]:
    for where, (video, start, label, split) in _rows(path, 4):
        check_video(video, where)
        if not _SECOND.fullmatch(start):
            raise DataError(f"{where}: {shown(start)} is not a whole number of seconds; correct the line")
        if split not in {"train", "test"}:
            raise DataError(f"{where}: split is {shown(split)}; expected train or test")
        yield split, Listed(video, int(start), _label(label, where), where)


def _clip(name: str, label: str, where: str) -> Listed:
    stem, suffix = os.path.splitext(safe_parts(name, where)[-1])  # noqa: PTH122 - a name, no path
    key = parse_clip(stem) if suffix.lower() in {"", *SUFFIXES} else None
    if key is None:
        raise DataError(f"{where}: {shown(name)} is not <YouTube id>_<start>.mp4; correct or remove the line")
    return Listed(*key, _label(label, where), where)


def _label(label: str, where: str) -> str:
    if not label or not label.isprintable():
        raise DataError(f"{where}: label is {shown(label)}; correct or remove the line")
    return label


def _rows(path: Path, columns: int) -> Iterator[tuple[str, Sequence[str]]]:
    """(where, fields) of each line; a first line that is a header is left out."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        for number, row in enumerate(reader):
            fields, where = [field.strip() for field in row], f"{path}:{reader.line_num}"
            if not row or (number == 0 and "label" in {field.lower() for field in fields}):
                continue
            if len(fields) != columns:
                raise DataError(f"{where}: has {len(fields)} fields, expected {columns}; quote labels with a comma")
            yield where, fields
    except csv.Error as error:
        where = f"{path}:{reader.line_num + 1}"
        raise DataError(f"{where}: is not a line of CSV ({error}); correct or remove it") from error


def find_clips(source: Path) -> dict[Key, Path]:
    """The files below a folder that are named like a clip; of two of one clip, the first by its path is taken."""
    found: dict[Key, Path] = {}
    for path in find_files(source, SUFFIXES):
        key = parse_clip(path.stem)
        if key is not None:
            found.setdefault(key, path)
    return found


def read_names(paths: Iterable[Path]) -> set[Key]:
    """The clips that lists of names say are broken, silent or still: one name a line, in any grammar.

    Raises:
        DataError: a line is not the name of a clip.
    """
    return {_clip(line.split()[0], "none", where).key for path in paths for where, line in numbered_lines(path)}
