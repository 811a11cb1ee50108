"""The lists of UPMC Food-101: `texts/{train,test}_titles.csv`, or `{train,dev,test}.jsonl` of later work.

Kaggle's CSV files have no header: name of the picture, title, class. Copies have a header, or an index column before.
A row is read by what its fields are: one is the name of a picture, one is a class, the longest of the others the
title. A name is `<class>_<number>.jpg`, rarely `<class>_<number>-2.jpg`, and says the class by itself.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.files.folders import find_named
from data_prep.files.opening import read_file
from data_prep.sources.listfiles import LONGEST_FILE, refuse_doubles, shown
from data_prep.texts.reading import Reading
from drcli.errors import DataError
from drcli.reading import one_line

NUM_CLASSES = 101

_NAME = re.compile(r"(?P<label>[a-z_]+)_(?P<number>\d{1,4}(?:-\d{1,2})?)\.jpe?g", re.ASCII | re.IGNORECASE)
_TITLES = {"train": "train_titles.csv", "test": "test_titles.csv"}
_JSON = {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}
_LONGEST = 1_000_000  # characters of a field
_HEADER = frozenset({"image_path", "image", "img", "text", "title", "label", "food", "class"})


@dataclass(frozen=True)
class Titled:
    """A picture of a list.

    Attributes:
        name: of its file.
        label: its class, as the name has it.
        text: its title, in one line.
        where: "FILE:LINE" for messages.
    """

    name: str
    label: str
    text: str
    where: str


def list_paths(source: Path, lists: Path | None) -> dict[str, Path]:
    """The lists that are there: the CSV files of titles, or the JSON lines, val among these.

    Args:
        source: folder of the download.
        lists: folder of the lists; None: they are in the download, or in `texts` there.

    Raises:
        DataError: neither is there.
    """
    for folder in [lists] if lists else [source, source / "texts"]:
        for names in (_JSON, _TITLES):
            found = {split: find_named(folder, name) for split, name in names.items()}
            paths = {split: path for split, path in found.items() if path}
            if {"train", "test"} <= set(paths):
                return paths
    raise DataError(
        f"{lists or source}: holds neither texts/{_TITLES['train']} and {_TITLES['test']} nor {_JSON['train']} and "
        f"{_JSON['test']}; name the folder above texts and images, or that of the lists in dataset.prepare.lists_dir"
    )


def read_list(path: Path, reading: Reading) -> list[Titled]:
    """The pictures of one list.

    Raises:
        DataError: a line is not as expected, or a picture is listed twice.
    """
    text = reading.decode(read_file(path, limit=LONGEST_FILE), path.name)
    rows = _json_rows(text, path) if path.suffix.lower() == ".jsonl" else _csv_rows(text, path)
    found = [Titled(name, label, reading.clean(title), where) for where, name, label, title in rows]
    refuse_doubles((row.name, row.where) for row in found)
    return found


def _json_rows(text: str, path: Path) -> Iterator[tuple[str, str, str, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
            picture, label, title = str(row["img"]), str(row["label"]), str(row["text"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{where}: is not an object with img, label and text ({one_line(error)})") from error
        yield where, *_checked(picture.rsplit("/", 1)[-1], label, where), title


def _csv_rows(text: str, path: Path) -> Iterator[tuple[str, str, str, str]]:
    old = csv.field_size_limit(_LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for number, row in enumerate(reader):
            where = f"{path}:{reader.line_num}"
            if row and not (number == 0 and _is_header(row)):
                yield where, *_fields(row, where)
    except csv.Error as error:
        where = f"{path}:{reader.line_num + 1}"
        raise DataError(f"{where}: is not a line of CSV ({error}); correct or remove it") from error
    finally:
        csv.field_size_limit(old)


def _is_header(row: Sequence[str]) -> bool:
    return all(field.strip().lower() in {*_HEADER, ""} for field in row)


def _fields(row: Sequence[str], where: str) -> tuple[str, str, str]:
    """Name, class and title of a row, whatever the order of its columns."""
    fields = [field.strip() for field in row]
    names = [field.rsplit("/", 1)[-1] for field in fields if _NAME.fullmatch(field.rsplit("/", 1)[-1])]
    match = _NAME.fullmatch(names[0]) if names else None
    if match is None:
        raise DataError(f"{where}: no field is the name of a picture, <class>_<number>.jpg; correct or remove the line")
    label = match["label"].lower()
    others = fields[1:] if len(fields) > 3 and fields[0].isdecimal() else fields  # a number before each row
    rest = [field for field in others if field.rsplit("/", 1)[-1] != names[0]]
    if label not in {field.lower() for field in rest}:
        raise DataError(f"{where}: no field is {label}, which {shown(names[0])} says is the class; correct the line")
    rest.remove(next(field for field in rest if field.lower() == label))
    return names[0], label, max(rest, key=len, default="")


def _checked(name: str, label: str, where: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    if match is None or match["label"].lower() != label.lower():
        raise DataError(f"{where}: picture {shown(name)} is not <class>_<number>.jpg of class {shown(label)}")
    return name, label.lower()


def class_names(lists: Mapping[str, Sequence[Titled]]) -> tuple[str, ...]:
    """The classes of train, by name.

    Raises:
        DataError: another split has one that train has not.
    """
    train = {row.label for row in lists["train"]}
    for split, rows in lists.items():
        other: Any = next((row for row in rows if row.label not in train), None)
        if other is not None:
            raise DataError(f"{other.where}: class {shown(other.label)} of {split} is not in train")
    return tuple(sorted(train))
