"""The lists of AVE: trainSet.txt, valSet.txt and testSet.txt, lines `category&id&quality&start&end`.

Categories contain commas and brackets, and ids begin with dashes, so that nothing but & separates. A video may
have several events. The repository's lists have no header; a first line whose start is no number is one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.files.folders import find_named
from data_prep.sources.listfiles import check_video, numbered_lines, shown
from drcli.errors import DataError
from drcli.registry import known

CLASSES = (
    "Accordion",
    "Acoustic guitar",
    "Baby cry, infant cry",
    "Banjo",
    "Bark",
    "Bus",
    "Cat",
    "Chainsaw",
    "Church bell",
    "Clock",
    "Female speech, woman speaking",
    "Fixed-wing aircraft, airplane",
    "Flute",
    "Frying (food)",
    "Goat",
    "Helicopter",
    "Horse",
    "Male speech, man speaking",
    "Mandolin",
    "Motorcycle",
    "Race car, auto racing",
    "Rodents, rats, mice",
    "Shofar",
    "Toilet flush",
    "Train horn",
    "Truck",
    "Ukulele",
    "Violin, fiddle",
)
"""The 28 categories, by name."""

LISTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
LONGEST = 10  # seconds of a video

_SECOND = re.compile(r"\d{1,4}", re.ASCII)


@dataclass(frozen=True)
class Event:
    """One row of a list.

    Attributes:
        id: the video's id, with a number after it where the video has several events.
        video: YouTube id, 11 characters.
        label: its category.
        start: second at which the event begins.
        end: second at which it ends.
        where: "FILE:LINE" for messages.
    """

    id: str
    video: str
    label: str
    start: int
    end: int
    where: str


def list_paths(source: Path, lists: Path | None) -> dict[str, Path]:
    """The list of each split.

    Args:
        source: folder of the download, or the one above `AVE_Dataset`.
        lists: folder of the lists; None: they are in the download.

    Raises:
        DataError: one is missing.
    """
    folders = [lists] if lists else [source, source / "AVE_Dataset", source / "data"]
    folder = next((place for place in folders if find_named(place, LISTS["train"])), folders[0])
    found = {split: find_named(folder, name) for split, name in LISTS.items()}
    for split, path in found.items():
        if path is None:
            raise DataError(
                f"{folder}: {LISTS[split]} is missing; give the folder with AVE's lists and its folder AVE of videos "
                "as --source, or name the folder of the lists in dataset.prepare.lists_dir"
            )
    return {split: path for split, path in found.items() if path}


def read_splits(paths: Mapping[str, Path], classes: Sequence[str]) -> dict[str, list[Event]]:
    """The events of the chosen categories, by split and in the lists' order.

    Args:
        paths: the list of each split.
        classes: names of the categories that are wanted.

    Raises:
        DataError: a line is not as expected, a row is listed twice, or a list has no event of them.
    """
    found = {split: list(_read(path, classes)) for split, path in paths.items()}
    for split, path in paths.items():
        if not found[split]:
            raise DataError(f"{path}: lists no event of the categories that are wanted")
    _refuse_repeated(event for events in found.values() for event in events)
    chosen = {split: [event for event in events if event.label in classes] for split, events in found.items()}
    return _numbered(chosen)


def _read(path: Path, classes: Sequence[str]) -> Iterable[Event]:
    for number, (where, line) in enumerate(numbered_lines(path)):
        fields = [field.strip() for field in line.split("&")]
        if len(fields) != 5:
            raise DataError(f"{where}: {shown(line)} has {len(fields)} fields; expected category&id&quality&start&end")
        if number == 0 and not _SECOND.fullmatch(fields[3]):
            continue  # the header of the list that is in the archive
        yield _event(fields, where, classes)


def _event(fields: Sequence[str], where: str, classes: Sequence[str]) -> Event:
    label, video, _, start, end = fields
    if label not in {*CLASSES, *classes}:
        raise DataError(f"{where}: category {shown(label)} is not one of AVE's; {known(label, CLASSES)}")
    check_video(video, where)
    if not (_SECOND.fullmatch(start) and _SECOND.fullmatch(end) and int(start) <= int(end) <= LONGEST):
        raise DataError(
            f"{where}: the event lasts from {shown(start)} to {shown(end)}; expected whole seconds from 0 to "
            f"{LONGEST}, the end not before the start"
        )
    return Event(video, video, label, int(start), int(end), where)


def _refuse_repeated(events: Iterable[Event]) -> None:
    """Refuse a row that is there twice; a video may have several events, of one second or of two labels."""
    first: dict[tuple[str, str, int, int], str] = {}
    for event in events:
        row = (event.video, event.label, event.start, event.end)
        if row in first:
            raise DataError(f"{event.where}: this event is listed before, at {first[row]}; keep one of the lines")
        first[row] = event.where


def _numbered(splits: Mapping[str, Sequence[Event]]) -> dict[str, list[Event]]:
    """The events with ids of their own: those of a video with several are numbered from 1, over all splits."""
    totals = Counter(event.video for events in splits.values() for event in events)
    seen: Counter[str] = Counter()
    result: dict[str, list[Event]] = {}
    for split, events in splits.items():
        result[split] = []
        for event in events:
            seen[event.video] += 1
            name = f"{event.video}_{seen[event.video]}" if totals[event.video] > 1 else event.video
            result[split].append(Event(name, event.video, event.label, event.start, event.end, event.where))
    return result


def without_empty(splits: Mapping[str, Sequence[Event]]) -> tuple[dict[str, list[Event]], list[Event]]:
    """The splits without the events that end when they begin, and these events."""
    kept = {split: [event for event in events if event.end > event.start] for split, events in splits.items()}
    return kept, [event for events in splits.values() for event in events if event.end == event.start]
