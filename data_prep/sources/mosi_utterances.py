"""CMU-MOSI's utterances as bc-LSTM gives them (Poria et al. 2017): one vector per modality, and what was said.

A folder with tables without headers::

    transcripts.csv                    <video>_<number>, transcript, 93, label; 2,199 rows
    text_train.csv, text_test.csv      number of a row of transcripts.csv, from 0; 100 numbers
    <m>/<m>_train0.csv, ..._test0.csv  numbers, label; row i belongs to row i of text_train.csv

for m of text (100 numbers), audio (73) and video (100). Utterance <video>_<k> is opinion k - 1 of the video in the
official label file.

Its text and video vectors were learned on the 62 videos of its train part: on these they know the labels.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.files.folders import find_named
from data_prep.sources.listfiles import read_text, refuse_doubles, shown
from data_prep.sources.mosi_folds import FOLDS
from data_prep.sources.mosi_segments import MODALITIES, Contents, Repairs, Segment, video_of
from data_prep.sources.mosi_tables import Table, opened
from data_prep.writing.splits import row_generator
from drcli.errors import DataError

TRANSCRIPTS = "transcripts.csv"
PARTS = ("train", "test")
FOLDERS: Mapping[str, str] = {"text": "text", "audio": "audio", "visual": "video"}
"""Folder, and beginning of the file names, by modality."""

WHY_OWN_FOLDS = (
    "its text and video vectors were learned on 62 videos, among them 24 of the 31 standard test videos: the standard "
    "test split would be scored with its own labels"
)
WHY_VAL = (
    "text and video vectors were learned on the train videos and know their labels: val is drawn by video from the "
    "others, the rest is test"
)

Row = tuple[str, list[str]]
"""FILE:LINE and the fields of a row."""


def utterance_files(transcripts: Path) -> dict[str, Path]:
    """The files of a folder by role: "transcripts", "rows_train", "text_train", ..., "visual_test".

    Args:
        transcripts: the file that shows which folder it is.

    Raises:
        DataError: another one is missing.
    """
    folder = transcripts.parent
    wanted = {f"rows_{part}": folder / f"text_{part}.csv" for part in PARTS}
    for m, name in FOLDERS.items():
        wanted |= {f"{m}_{part}": folder / name / f"{name}_{part}0.csv" for part in PARTS}
    found = {role: find_named(path.parent, path.name) for role, path in wanted.items()}
    for role, path in found.items():
        if path is None:
            raise DataError(f"{wanted[role]}: no such file; take the folder of bc-LSTM as it was downloaded")
    return {"transcripts": transcripts, **{role: path for role, path in found.items() if path is not None}}


@dataclass(frozen=True)
class Utterances:
    """What the folder holds.

    Attributes:
        contents: segments, with what was said; of the train part, and of val and test.
        has_scores: whether the sentiments are those of the official label file, and not 1 and -1 alone.
        instant: utterances whose interval in that file has no length, with its time.
    """

    contents: Contents
    has_scores: bool
    instant: Mapping[str, str]

    def notes(self) -> list[str]:
        """Lines that the user should see."""
        val = self.contents.splits["val"]
        lines = [f"{WHY_VAL} ({len(val)} utterances of {len(videos_of(val))} videos in val)"]
        lines += [
            f"{name} has no length in the official label file ({time}); its vectors are kept"
            for name, time in self.instant.items()
        ]
        if not self.has_scores:
            lines.append(
                "no CMU_MOSI_Opinion_Labels.csd beside the folder: whether an opinion is negative is known alone"
            )
        return lines

    def source(self) -> dict[str, Any]:
        """What `dataset.json` says of the split."""
        videos = {split: videos_of(segments) for split, segments in self.contents.splits.items()}
        return {"folds": "own", "why": f"{WHY_OWN_FOLDS}; {WHY_VAL}", "videos": videos, "no_length": dict(self.instant)}


def read_utterances(files: Mapping[str, Path], *, val_videos: int, seed: int) -> Utterances:
    """The utterances of the files that `utterance_files` found; with "labels", their scores.

    Args:
        files: file by role; "labels" may be missing.
        val_videos: how many of the videos outside the train part become val.
        seed: of the choice of these videos.

    Raises:
        UsageError: there are labels, and h5py is not installed.
        DataError: a file is damaged, the files do not fit together, or too few videos are left for test.
    """
    repairs = Repairs()
    said = _transcripts(files["transcripts"])
    parts = {part: _part(files, part, said, repairs) for part in PARTS}
    instant: dict[str, str] = {}
    if "labels" in files:
        parts, instant = _scored(parts, files["labels"])
    videos = sorted({_video(segment) for segment in parts["test"]})
    if val_videos >= len(videos):
        raise DataError(
            f"{files['transcripts'].parent}: dataset.prepare.val_videos = {val_videos}, but only {len(videos)} videos "
            f"are outside the train part, and test needs one; ask for {len(videos) - 1} at most"
        )
    drawn = set(row_generator(seed, "videos").permutation(videos)[:val_videos].tolist())
    splits = {
        "train": parts["train"],
        "val": [segment for segment in parts["test"] if _video(segment) in drawn],
        "test": [segment for segment in parts["test"] if _video(segment) not in drawn],
    }
    return Utterances(Contents(splits, is_aligned=False, repairs=repairs), "labels" in files, instant)


def videos_of(segments: Sequence[Segment]) -> list[str]:
    """The videos of some segments, in alphabetical order."""
    return sorted({_video(segment) for segment in segments})


def _video(segment: Segment) -> str:
    video = video_of(segment.id)
    assert video is not None, "checked when the transcripts were read"
    return video


@dataclass(frozen=True)
class _Said:
    """A row of the transcripts."""

    id: str
    words: str
    label: int


def _transcripts(path: Path) -> list[_Said]:
    rows = list(_rows(path, 4))
    known = frozenset().union(*FOLDS.values())
    for where, (name, _, _, label) in rows:
        if not re.fullmatch(r"[\w-]{11}_[1-9]\d{0,3}", name, re.ASCII) or name[:11] not in known:
            raise DataError(f"{where}: {shown(name)} is no <video>_<number> of CMU-MOSI; download the folder again")
        if label not in {"0", "1"}:
            raise DataError(f"{where}: the label of {name} is {shown(label)}, expected 0 or 1; download it again")
    refuse_doubles((name, where) for where, (name, *_) in rows)
    return [_Said(name, words, int(label)) for _, (name, words, _, label) in rows]


def _part(files: Mapping[str, Path], part: str, said: Sequence[_Said], repairs: Repairs) -> list[Segment]:
    """The segments of "train" or "test", in the order of its tables."""
    chosen = [_said_at(where, fields[0], said) for where, fields in _rows(files[f"rows_{part}"])]
    refuse_doubles((found.id, f"{files[f'rows_{part}']}:{line}") for line, found in enumerate(chosen, start=1))
    vectors = {m: repairs.finite(m, _vectors(files[f"{m}_{part}"], chosen)) for m in MODALITIES}
    return [
        Segment(found.id, float(2 * found.label - 1), {m: vectors[m][i : i + 1] for m in MODALITIES}, found.words)
        for i, found in enumerate(chosen)
    ]


def _said_at(where: str, number: str, said: Sequence[_Said]) -> _Said:
    if not number.isascii() or not number.isdecimal() or len(number) > 9 or int(number) >= len(said):
        raise DataError(f"{where}: {shown(number)} is no row of {TRANSCRIPTS}, which has {len(said)}, from 0")
    return said[int(number)]


def _vectors(path: Path, chosen: Sequence[_Said]) -> NDArray[np.float64]:
    """(n, D) of a table whose rows belong to utterances; its labels must be theirs."""
    rows = list(_rows(path))
    if len(rows) != len(chosen):
        raise DataError(f"{path}: has {len(rows)} rows, the table of row numbers has {len(chosen)}; download it again")
    for (where, fields), found in zip(rows, chosen, strict=True):
        if fields[-1] != str(found.label):
            raise DataError(
                f"{where}: the label is {shown(fields[-1])}, that of {found.id} in {TRANSCRIPTS} is {found.label}; "
                "the tables are not of one download"
            )
    return np.array([_numbers(where, fields[:-1]) for where, fields in rows])


def _numbers(where: str, fields: Sequence[str]) -> NDArray[np.float64]:
    try:
        together = "".join(fields)
        if "_" in together or not together.isascii():
            raise ValueError("a character that no number has")
        return np.array(fields, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{where}: holds what is not a number ({error}); download it again") from error


def _rows(path: Path, count: int | None = None) -> Iterator[Row]:
    """The rows of a table, each of as many fields, `count` or those of the first, and two at least."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for fields in reader:
            where, count = f"{path}:{reader.line_num}", count or len(fields)
            if len(fields) != count or count < 2:
                raise DataError(f"{where}: has {len(fields)} fields, expected {max(count, 2)}; download it again")
            yield where, fields
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is not a row of a table ({error}); download it again") from error


def _scored(parts: Mapping[str, list[Segment]], labels: Path) -> tuple[dict[str, list[Segment]], dict[str, str]]:
    """The segments with the scores of the official file, whose signs must be those of the labels; instants."""
    with opened({"labels": labels}) as tables:
        table, names = tables["labels"], [segment for segments in parts.values() for segment in segments]
        official = {video: _opinions(table, video) for video in videos_of(names)}
    scored = {
        part: [replace(segment, sentiment=_official(segment, official, labels)[0]) for segment in segments]
        for part, segments in parts.items()
    }
    times = {segment.id: _official(segment, official, labels)[1:] for segment in names}
    return scored, {name: f"{start:g} to {end:g} s" for name, (start, end) in times.items() if start == end}


Opinion = tuple[float, float, float]
"""Score, and the seconds from and to which it goes."""


def _opinions(table: Table, video: str) -> list[Opinion]:
    if video not in table.videos:
        raise DataError(f"{table.path}: video {video} is missing; download it again")
    found = table.read(video)
    return [(float(row[0]), *times) for row, times in zip(found.features, found.intervals.tolist(), strict=True)]


def _official(segment: Segment, official: Mapping[str, Sequence[Opinion]], path: Path) -> Opinion:
    opinions, number = official[_video(segment)], int(segment.id[12:])
    if number > len(opinions):
        raise DataError(f"{path}: has {len(opinions)} opinions of {_video(segment)}, and none for {segment.id}")
    found = opinions[number - 1]
    if (found[0] >= 0) != (segment.sentiment > 0):
        raise DataError(
            f"{path}: the score of {segment.id} is {found[0]:g}, but {TRANSCRIPTS} calls it "
            f"{'non-negative' if segment.sentiment > 0 else 'negative'}; the files are not of one dataset"
        )
    return found
