"""The splits of Kinetics-Sounds: which of the list and annotation files are there, and what they list together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from data_prep.files.folders import find_named, list_folder
from data_prep.sources.kinetics_lists import Listed, read_annotations, read_json, read_list
from data_prep.sources.listfiles import refuse_doubles
from drcli.data.format import SPLITS
from drcli.errors import DataError

ANNOTATIONS: Mapping[str, tuple[str, ...]] = {
    "train": ("train.csv",),
    "val": ("val.csv", "validate.csv"),
    "test": ("test.csv",),
}
"""Official names; a file that ends with one after some other name, as kinetics-400_val.csv, is found too."""

LISTS: Mapping[str, tuple[str, ...]] = {"train": ("my_train.txt",), "val": ("my_val.txt",), "test": ("my_test.txt",)}
JSON_LISTS = ("KS_train_val.json", "KS.json")

_CSV = frozenset({".csv"})


def read_splits(source: Path, lists: Path | None, classes: tuple[str, ...]) -> dict[str, list[Listed]]:
    """The listed clips of the chosen classes, by split and ordered by id.

    Args:
        source: folder of the download, which holds the annotation files.
        lists: folder of the literature's lists; None takes the annotation files.
        classes: names of the classes that are wanted.

    Raises:
        DataError: a file is missing or not as expected, or a clip is listed twice or in two splits.
    """
    if lists is None:
        splits = {split: read_annotations(_official(source, split), split, classes) for split in SPLITS}
    else:
        splits = _literature(source, lists, classes)
    refuse_doubles((clip.video, clip.where) for clips in splits.values() for clip in clips)
    chosen = {split: [clip for clip in clips if clip.label in classes] for split, clips in splits.items()}
    return {split: sorted(clips, key=lambda clip: clip.video) for split, clips in chosen.items()}


def find_annotation(source: Path, split: str) -> Path | None:
    """The annotation file of a part of Kinetics-400; None if there is none.

    Raises:
        DataError: two files of one folder could be it.
    """
    for folder in _folders(source):
        path = find_named(folder, *ANNOTATIONS[split]) or _only(_ending_with(folder, split))
        if path is not None:
            return path
    return None


def _folders(source: Path) -> list[Path]:
    """Where annotation files may be, the preferred folder first."""
    return [root / folder for root in (source, source / "k400") for folder in ("annotations", ".")]


def _ending_with(folder: Path, split: str) -> list[Path]:
    """CSV files whose names end with one of the official names, as kinetics-400_val.csv does."""
    ends = "|".join(name.removesuffix(".csv") for name in ANNOTATIONS[split])
    pattern = re.compile(rf".*[^a-z]({ends})\.csv", re.IGNORECASE)
    return [path for path in list_folder(folder, _CSV) if pattern.fullmatch(path.name)]


def _only(paths: Sequence[Path]) -> Path | None:
    if len(paths) > 1:
        raise DataError(
            f"{paths[0]} and {paths[1].name}: either could be the annotation file; rename the right one to "
            f"{re.split('[^a-z]', paths[0].stem.lower())[-1]}.csv"
        )
    return paths[0] if paths else None


def _official(source: Path, split: str) -> Path:
    path = find_annotation(source, split)
    if path is None:
        raise DataError(
            f"{source}: {' or '.join(ANNOTATIONS[split])} is missing, here and in annotations/{_csv_files(source)}; "
            "get them from Kinetics-400, or name the folder of the literature's lists in dataset.prepare.lists_dir"
        )
    return path


def _csv_files(source: Path) -> str:
    """The CSV files that are there instead, for a message; empty if there are none."""
    names = [path.name for folder in _folders(source) for path in list_folder(folder, _CSV)]
    more = ", ..." if len(names) > 5 else ""
    return f" (there: {', '.join(names[:5])}{more})" if names else ""


def _literature(source: Path, lists: Path, classes: tuple[str, ...]) -> dict[str, list[Listed]]:
    """The literature's splits; a validation part that its lists lack is that of Kinetics-400."""
    given = {split: find_named(lists, *LISTS[split]) for split in SPLITS}
    database = find_named(lists, *JSON_LISTS)
    if given["train"] and given["test"]:
        splits = {split: read_list(path, classes) for split, path in given.items() if path}
        if "val" not in splits:
            splits["val"] = _validation(source, lists, database, classes)
    elif database:
        splits = read_json(database, classes)
    else:
        raise DataError(f"{lists}: holds neither my_train.txt and my_test.txt nor {JSON_LISTS[0]}")
    for split in SPLITS:
        if not splits[split]:
            raise DataError(
                f"{database or given[split] or lists}: lists no clip of {split}; {JSON_LISTS[0]} has all three"
            )
    return {split: splits[split] for split in SPLITS}


def _validation(source: Path, lists: Path, database: Path | None, classes: tuple[str, ...]) -> list[Listed]:
    """The validation part of the JSON, or of Kinetics-400."""
    if database:
        return read_json(database, classes)["val"]
    path = find_annotation(source, "val")
    if path is None:
        raise DataError(
            f"{lists}: has no list of the validation part; add my_val.txt or {JSON_LISTS[0]} there, or Kinetics-400's "
            f"val.csv to {source}{_csv_files(source)}"
        )
    return read_annotations(path, "val", classes)


def list_files(source: Path, lists: Path | None) -> list[Path]:
    """The list and annotation files that are there, for the fingerprint."""
    annotations = [find_annotation(source, split) for split in SPLITS]
    named = [find_named(lists, *names) for names in (*LISTS.values(), JSON_LISTS)] if lists else []
    return [path for path in [*annotations, *named] if path is not None]
