"""Lists and annotation files of UCF-101, CREMA-D and Kinetics-Sounds; the first byte says which kind."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from functools import partial
from operator import add
from pathlib import Path
from typing import Any

from fuzz.mutation import mutated, refused
from hypothesis import strategies as st

from data_prep.sources import cremad_splits, kinetics_lists, ucf101_lists
from drcli.errors import DataError

CLASSES = ("Archery", "YoYo")
ID = r"[A-Za-z0-9_-]{11}"
SUFFIX = r"(?:\.(?:mp4|mkv|webm))?"

ANNOTATIONS = """label,youtube_id,time_start,time_end,split,is_cc
bowling,-abcdefghij,58,68,train,0
"tap dancing",abcdefghijk,1,11,train,0
"""

VALID = (
    b"1 Archery\n2 YoYo\n",
    b"Archery/v_Archery_g01_c01.avi 1\nYoYo/v_YoYo_g25_c04.avi 2\r\nArchery/v_Archery_g08_c02.avi\n",
    b"1001_DFA_ANG_XX,ANG\n1091_WSI_SAD_HI,SAD\n",
    b"-abcdefghij_000058_000068,10,4\n__cdefghijk_7,10,30\n",
    ANNOTATIONS.encode(),
    json.dumps({"database": {"-abcdefghij_000001_000011": {"subset": "training", "label": "tap_dancing"}}}).encode(),
)


def inputs() -> st.SearchStrategy[bytes]:
    """The kind, then a list of that kind that is damaged."""
    kinds = [mutated([content]).map(partial(add, bytes([kind]))) for kind, content in enumerate(VALID)]
    return st.one_of(kinds)


def check(data: bytes, folder: Path) -> str:
    """Read a list; what is accepted must be what an independent reading of its lines gives."""
    kind = data[0] % len(VALID) if data else 0
    path = folder / "list.csv"
    path.write_bytes(data[1:])
    read, expected = READERS[kind]
    try:
        found = read(path)
    except DataError as error:
        return refused(error)
    text = data[1:].decode("utf-8-sig")
    assert found == expected(text), (found, text)
    return "accepted"


def lines(text: str) -> list[str]:
    parts = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [part.strip() for part in parts if part.strip()]


def classes_of(text: str) -> list[str]:
    found = [re.fullmatch(r"(\d+) (.+)", line) for line in lines(text)]
    assert [match and int(match[1]) for match in found] == list(range(1, len(found) + 1))
    return [match[2].strip() for match in found if match]


def videos_of(text: str) -> list[tuple[str, str, int]]:
    pattern = r"(?:\./)*(Archery|YoYo)/+(?:\./)*(v_.+_g(\d\d)_c\d\d)(?:\.[^/]*)?(?: +([12]))?"
    found = [re.fullmatch(pattern, line, re.IGNORECASE) for line in lines(text)]
    assert all(found), text
    for match in found:
        assert match
        assert match[4] in {None, "1" if match[1].lower() == "archery" else "2"}
    return [(match[1].lower(), match[2], int(match[3])) for match in found if match]


def recordings_of(text: str) -> list[str]:
    rows = [re.split(r"[,\s]+", line) for line in lines(text)]
    if re.fullmatch(r"name\s*,\s*label", lines(text)[0], re.IGNORECASE):
        rows = rows[1:]
    stems = []
    for name, label in rows:
        match = re.search(r"(\d{4}_[A-Z]{3}_([A-Z]{3})_(?:XX|LO|MD|HI))", name)
        assert match
        assert match[2] == cremad_splits._WORDS.get(label.strip('"').upper(), label.strip('" ').upper())
        stems.append(match[1])
    return stems


def clips_of(text: str) -> list[tuple[str, int | None, str]]:
    rows = [re.findall(r"[^,]+" if "," in line else r"\S+", line) for line in lines(text)]
    if rows and rows[0][-1].strip().lower() in {"label", "class", "class_id"}:
        rows = rows[1:]
    found = []
    for row in rows:
        match = re.search(
            rf"(?:^|/)({ID})(?:_(\d+)(?:_\d+)?)?(?:\.(?:mp4|mkv|webm))?/*$", row[0].strip(), re.IGNORECASE
        )
        assert match, row
        found.append((match[1], None if match[2] is None else int(match[2]), class_of(row[-1].strip())))
    return found


def class_of(label: str) -> str:
    return kinetics_lists.CLASSES[int(label)] if label.isdigit() else label.replace("_", " ").strip()


def annotations_of(text: str) -> list[tuple[str, int | None, str]]:
    header, *rows = (row for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) if row)
    found = []
    for row in rows:
        video, start, label = (row[header.index(name)].strip() for name in ("youtube_id", "time_start", "label"))
        if class_of(label) in kinetics_lists.CLASSES:
            found.append((video, int(float(start)) if start else None, class_of(label)))
    return found


def database_of(text: str) -> list[tuple[str, int | None, str]]:
    found = []
    for name, clip in json.loads(text)["database"].items():
        found += [(video, start, class_of(str(clip["label"]))) for video, start, _ in clips_of(f"{name},0")]
    return found


def facts(clips: list[kinetics_lists.Listed]) -> list[tuple[str, int | None, str]]:
    return [(clip.video, clip.start, clip.label) for clip in clips]


def read_ucf101(path: Path) -> list[tuple[str, str, int]]:
    videos = ucf101_lists.read_list(path, CLASSES)
    return [(CLASSES[video.label].lower(), video.name, video.group) for video in videos]


READERS: list[tuple[Callable[[Path], Any], Callable[[str], Any]]] = [
    (lambda path: list(ucf101_lists.read_classes(path)), classes_of),
    (read_ucf101, videos_of),
    (lambda path: [name for name, _ in cremad_splits.read_list(path)], recordings_of),
    (lambda path: facts(kinetics_lists.read_list(path, ())), clips_of),
    (lambda path: facts(kinetics_lists.read_annotations(path, "train", kinetics_lists.CLASSES)), annotations_of),
    (lambda path: facts([clip for part in kinetics_lists.read_json(path, ()).values() for clip in part]), database_of),
]
