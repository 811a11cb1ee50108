"""The files of MVSA-Single: `labelResultAll.txt`, and `data/<n>.jpg` with `data/<n>.txt`.

A line of the labels is `<n>`, a tab, and the labels of text and picture, with a comma between. Two rules make one
label of two: `agreed` keeps the pairs whose labels are equal (2,592); `majority`, MultiSentiNet's, drops positive with
negative, and lets neutral yield to the other (4,511).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.files.folders import find_named
from data_prep.sources.listfiles import numbered_lines, refuse_doubles, shown
from drcli.errors import DataError
from drcli.reading import one_line

CLASSES = ("negative", "neutral", "positive")
LABELS = "labelResultAll.txt"
LISTS = {"train": "train.jsonl", "val": "dev.jsonl", "test": "test.jsonl"}

Rule = Literal["agreed", "majority"]

_LINE = re.compile(r"(\d{1,9})[\t ]+(\w+),(\w+)", re.ASCII)


@dataclass(frozen=True)
class Tweet:
    """A line of the labels.

    Attributes:
        id: its number, as text.
        text: label of the text.
        picture: label of the picture.
        where: "FILE:LINE" for messages.
    """

    id: str
    text: str
    picture: str
    where: str

    def label(self, rule: Rule) -> str | None:
        """The one label; None where the rule leaves the pair out."""
        labels = {self.text, self.picture}
        if len(labels) == 1:
            return self.text
        if rule == "agreed" or "neutral" not in labels:
            return None
        (other,) = labels - {"neutral"}
        return other


def find_labels(source: Path) -> Path:
    """The file of labels, in the folder or in `MVSA_Single` there.

    Raises:
        DataError: it is not there.
    """
    for folder in (source, source / "MVSA_Single", source / "MVSA-Single"):
        path = find_named(folder, LABELS)
        if path:
            return path
    raise DataError(f"{source}: {LABELS} is missing; name the folder that holds it and the folder data")


def read_labels(path: Path) -> list[Tweet]:
    """All pairs, by number.

    Raises:
        DataError: a line is not as expected, or a number is there twice.
    """
    tweets = []
    for number, (where, line) in enumerate(numbered_lines(path)):
        if number == 0 and line.lower().startswith("id"):
            continue
        match = _LINE.fullmatch(line)
        if match is None or not {match[2], match[3]} <= set(CLASSES):
            raise DataError(
                f"{where}: {shown(line)} is not a number, a tab and two labels of {', '.join(CLASSES)}, with a comma "
                "between; correct or remove the line"
            )
        tweets.append(Tweet(str(int(match[1])), match[2], match[3], where))
    refuse_doubles((tweet.id, tweet.where) for tweet in tweets)
    return sorted(tweets, key=lambda tweet: int(tweet.id))


def read_lists(folder: Path) -> dict[str, dict[str, str]]:
    """The literature's splits: number -> "FILE:LINE", by split. Texts and labels in these files are not used.

    Raises:
        DataError: a list is missing, or a line is not as expected.
    """
    found: dict[str, dict[str, str]] = {}
    for split, name in LISTS.items():
        path = find_named(folder, name)
        if path is None:
            raise DataError(f"{folder}: {name} is missing; lists_dir must hold {', '.join(LISTS.values())}")
        found[split] = {_number(line, where): where for where, line in numbered_lines(path)}
    refuse_doubles((number, where) for part in found.values() for number, where in part.items())
    return found


def list_paths(folder: Path) -> list[Path]:
    """The lists that are there, for the fingerprint."""
    return [path for name in LISTS.values() if (path := find_named(folder, name))]


def _number(line: str, where: str) -> str:
    try:
        name = str(json.loads(line)["img"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: is not an object with img ({one_line(error)})") from error
    match = re.fullmatch(r"(?:.*/)?(\d{1,9})\.jpe?g", name, re.ASCII)
    if match is None:
        raise DataError(f"{where}: img {shown(name)} is not data/<number>.jpg; correct or remove the line")
    return str(int(match[1]))


def labels_of(tweets: list[Tweet], rule: Rule) -> Mapping[str, str]:
    """Label of each pair that the rule keeps, by number."""
    return {tweet.id: label for tweet in tweets if (label := tweet.label(rule)) is not None}
