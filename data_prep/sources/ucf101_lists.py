"""The official class index and train/test lists of UCF-101, and the validation groups cut from train.

A class has 25 groups of clips; clips of a group show the same people in the same place, so that a
group must not be torn. The label is the folder's: the files of class HandstandPushups are spelt
v_HandStandPushups_gXX_cYY.avi.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.sources.listfiles import numbered_lines, refuse_doubles, safe_parts, shown
from drcli.errors import DataError

CLASS_INDEX = "classInd.txt"
NUM_CLASSES = 101

_VIDEO = re.compile(r"v_.+_g(?P<group>\d{2})_c\d{2}", re.ASCII)


@dataclass(frozen=True)
class Video:
    """A clip as a list names it.

    Attributes:
        name: file name without suffix.
        label: class index.
        group: which of the class's 25 groups it belongs to.
        where: "FILE:LINE" for messages.
    """

    name: str
    label: int
    group: int
    where: str


def find_lists(source: Path) -> Path:
    """The folder with classInd.txt.

    Raises:
        DataError: there is none.
    """
    nested = sorted(path for path in source.glob("*/ucfTrainTestlist") if not path.parent.name.startswith("."))
    for folder in (source, source / "ucfTrainTestlist", *nested):
        if (folder / CLASS_INDEX).is_file():
            return folder
    raise DataError(
        f"{source}: {CLASS_INDEX} is missing, here and in ucfTrainTestlist/; unpack "
        "UCF101TrainTestSplits-RecognitionTask.zip there"
    )


def list_paths(folder: Path, fold: int) -> tuple[Path, Path, Path]:
    """classInd.txt, and the train and test lists of a fold."""
    return folder / CLASS_INDEX, folder / f"trainlist{fold:02d}.txt", folder / f"testlist{fold:02d}.txt"


def read_classes(path: Path) -> tuple[str, ...]:
    """Class names in the official order; the file counts from 1.

    Raises:
        DataError: a line is not as expected, there is none, or the indices are not 1, 2, 3 ...
    """
    names: dict[str, str] = {}  # as they are spelt, by their lower case
    for where, line in numbered_lines(path):
        index, _, name = line.partition(" ")
        name = name.strip()
        if index != str(len(names) + 1) or len(safe_parts(name, where)) != 1:
            raise DataError(f"{where}: {shown(line)}; expected `{len(names) + 1} <class name>`")
        if name.lower() in names:
            raise DataError(f"{where}: class {shown(name)} is listed twice")
        names[name.lower()] = name
    if not names:
        raise DataError(f"{path}: lists no class; expected lines `1 ApplyEyeMakeup`")
    return tuple(names.values())


def read_list(path: Path, classes: Sequence[str]) -> list[Video]:
    """The clips of one list, with or without the labels at the ends of its lines.

    Args:
        path: lines `<class>/v_<class>_gXX_cYY.avi [index from 1]`.
        classes: names in index order.

    Raises:
        DataError: the file is missing, or a line names no clip of the classes, or another label.
    """
    labels = {name.lower(): label for label, name in enumerate(classes)}
    return [_parse(where, line, labels) for where, line in numbered_lines(path)]


def _parse(where: str, line: str, labels: Mapping[str, int]) -> Video:
    """One line of a list; class indices by name in lower case."""
    path, _, index = line.partition(" ")
    parts = safe_parts(path, where)
    match = _VIDEO.fullmatch(Path(parts[-1]).stem)
    if len(parts) != 2 or match is None:
        raise DataError(f"{where}: {shown(path)}; expected <class>/v_<class>_gXX_cYY.avi")
    label = labels.get(parts[0].lower())
    if label is None:
        raise DataError(f"{where}: class {shown(parts[0])} is not in {CLASS_INDEX}")
    if index.strip() not in {"", str(label + 1)}:
        raise DataError(f"{where}: label {shown(index.strip())}, but {CLASS_INDEX} gives {label + 1} to {parts[0]}")
    return Video(Path(parts[-1]).stem, label, int(match["group"]), where)


def read_splits(folder: Path, fold: int, val_groups: Sequence[int], classes: Sequence[str]) -> dict[str, list[Video]]:
    """The clips by split, each in the order of names.

    Args:
        folder: where the lists are.
        fold: 1, 2 or 3.
        val_groups: groups of the training list that become the validation part.
        classes: names in index order.

    Raises:
        DataError: a list is not as expected, a clip is listed twice, or a group is in train and test.
    """
    _, train_path, test_path = list_paths(folder, fold)
    train, test = read_list(train_path, classes), read_list(test_path, classes)
    refuse_doubles((video.name.lower(), video.where) for video in [*train, *test])
    _refuse_shared_groups(train, test)
    strange = sorted(set(val_groups) - {video.group for video in train})
    if strange:
        raise DataError(f"{train_path}: has no group {strange[0]} to validate on; change dataset.prepare.val_groups")
    splits = {
        "train": [video for video in train if video.group not in val_groups],
        "val": [video for video in train if video.group in val_groups],
        "test": test,
    }
    return {split: sorted(videos, key=lambda video: video.name) for split, videos in splits.items()}


def _refuse_shared_groups(train: Sequence[Video], test: Sequence[Video]) -> None:
    """Check that no group of a class is torn between train and test."""
    first = {(video.label, video.group): video for video in train}
    for video in test:
        other = first.get((video.label, video.group))
        if other is not None:
            raise DataError(
                f"{video.where}: {video.name} is of the same group as {other.name} at {other.where}; "
                "a group belongs to train or to test: take the official lists"
            )
