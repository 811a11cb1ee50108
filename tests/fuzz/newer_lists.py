"""Lists of AVE, VGGSound, Food-101 and MVSA, and the folds of CMU-MOSEI; the first byte says which kind."""

from __future__ import annotations

import ast
import csv
import html
import io
import json
import re
import unicodedata
from collections.abc import Callable
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.sources import ave_lists, food101_lists, mosei_folds, mvsa_files, vggsound_lists
from data_prep.texts.reading import Reading
from drcli.errors import DataError

VALID = (
    b"Church bell&c---zaDCTaE&good&0&10\nFrying (food)&-abcdefghij&good&3&9\r\n",
    b'-abcdefghij,30,"bird chirping, tweeting",train\nabcdefghij_,7,siren,test\n',
    b'apple_pie_7.jpg,"My pie, \n&raquo; hot",apple_pie\nbaklava_12.jpg,Sweet,baklava\n',
    b'{"img": "images/train/apple_pie/apple_pie_7.jpg", "label": "apple_pie", "text": "my pie"}\n',
    b"ID\ttext,image\r\n1\tneutral,positive\r\n12\tnegative,negative\r\n",
    b"standard_train_fold=['188343', 'a']\nstandard_valid_fold=['b']\nstandard_test_fold=['c']\n",
)


def inputs() -> st.SearchStrategy[bytes]:
    """The kind, then a list of that kind that is damaged."""
    return st.one_of([mutated([content]).map(partial(add, bytes([kind]))) for kind, content in enumerate(VALID)])


def check(data: bytes, folder: Path) -> str:
    """Read a list; what is accepted must be what an independent reading of its lines gives."""
    kind = data[0] % len(VALID) if data else 0
    read, expected, suffix = READERS[kind]
    path = folder / f"list{suffix}"
    path.write_bytes(data[1:])
    try:
        found = read(path)
    except DataError as error:
        return refused(error)
    assert found == expected(data[1:]), (found, data)
    return "accepted"


def lines(content: bytes) -> list[str]:
    return [part.strip() for part in re.split("\r\n|\r|\n", content.decode("utf-8-sig")) if part.strip()]


def events(content: bytes) -> list[tuple[str, ...]]:
    rows = [tuple(field.strip() for field in line.split("&")) for line in lines(content)]
    if rows and not re.fullmatch("[0-9]{1,4}", rows[0][3]):
        rows = rows[1:]
    for label, video, _, start, end in rows:
        assert label in ave_lists.CLASSES
        assert re.fullmatch("[A-Za-z0-9_-]{11}", video)
        assert 0 <= int(start) <= int(end) <= 10
    return [(row[0], row[1], str(int(row[3])), str(int(row[4]))) for row in rows]


def read_events(path: Path) -> list[tuple[str, ...]]:
    found = ave_lists.read_splits({"train": path}, ave_lists.CLASSES)["train"]
    return [(event.label, event.video, str(event.start), str(event.end)) for event in found]


def clips(content: bytes) -> dict[str, list[tuple[str, int, str]]]:
    found: dict[str, list[tuple[str, int, str]]] = {"train": [], "test": []}
    text = content.decode("utf-8-sig")
    for number, row in enumerate(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True, strict=True)):
        fields = [field.strip() for field in row]
        if row and not (number == 0 and "label" in {field.lower() for field in fields}):
            video, start, label, split = fields
            assert re.fullmatch("[A-Za-z0-9_-]{11}", video)
            found[split].append((video, int(start), label))
    return {split: sorted(rows) for split, rows in found.items()}


def read_clips(path: Path) -> dict[str, list[tuple[str, int, str]]]:
    found = vggsound_lists.read_splits({"all": path})
    return {split: sorted((clip.video, clip.start, clip.label) for clip in part) for split, part in found.items()}


def clean(text: str) -> str:
    plain = unicodedata.normalize("NFC", html.unescape(text))
    return " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in plain).split())


def read_dishes(path: Path) -> list[tuple[str, str]]:
    found = food101_lists.read_list(path, Reading())
    for row in found:
        assert row.name.lower().startswith(f"{row.label}_")
        assert row.text == clean(row.text) or "&" in row.text
    return [(row.name, row.label) for row in found]


def text_of(content: bytes) -> str:
    return Reading().decode(content, "")


def titled(content: bytes) -> list[tuple[str, str]]:
    found = []
    for row in csv.reader(io.StringIO(text_of(content), newline=""), strict=True):
        names = [field.strip().rsplit("/", 1)[-1] for field in row]
        names = [name for name in names if re.fullmatch(r"[a-zA-Z_]+_[0-9-]+\.[jJ][pP][eE]?[gG]", name)]
        if names:
            found.append((names[0], names[0].rsplit("_", 1)[0].lower()))
    return found


def described(content: bytes) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in text_of(content).split("\n") if line.strip()]
    return [(str(row["img"]).rsplit("/", 1)[-1], str(row["label"]).lower()) for row in rows]


def moods(content: bytes) -> list[tuple[int, str, str]]:
    rows = lines(content)
    found = []
    for line in rows[1:] if rows and rows[0].lower().startswith("id") else rows:
        number, labels = line.split(maxsplit=1)
        text, picture = labels.split(",")
        assert {text, picture} <= {"negative", "neutral", "positive"}
        found.append((int(number), text, picture))
    return sorted(found)


def read_moods(path: Path) -> list[tuple[int, str, str]]:
    return [(int(tweet.id), tweet.text, tweet.picture) for tweet in mvsa_files.read_labels(path)]


def folds(content: bytes) -> list[list[str]]:
    names: dict[str, Any] = {}
    for statement in ast.parse(content.decode("utf-8-sig")).body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name) and isinstance(statement.value, ast.List):
                    names[target.id] = ast.literal_eval(statement.value)
    return [sorted(set(names[f"standard_{fold}_fold"])) for fold in ("train", "valid", "test")]


def read_folds(path: Path) -> list[list[str]]:
    return [sorted(videos) for videos in mosei_folds.read_folds(path).values()]


READERS: list[tuple[Callable[[Path], Any], Callable[[bytes], Any], str]] = [
    (read_events, events, ".txt"),
    (read_clips, clips, ".csv"),
    (read_dishes, titled, ".csv"),
    (read_dishes, described, ".jsonl"),
    (read_moods, moods, ".txt"),
    (read_folds, folds, ".py"),
]
