"""CMU-MOSI from the computational sequences (.csd) of the CMU SDK.

A .csd is an HDF5 file <root>/data/<video>/{features (n, D), intervals (n, 2) in seconds}. As the SDK does,
audio and visual rows are averaged over the words that they overlap, and words are taken into the opinion
segment that they overlap; silences ("sp") are not words. The folds are the standard ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.listfiles import shown
from data_prep.sources.mosi_folds import FOLDS, fold_of
from data_prep.sources.mosi_segments import MODALITIES, Contents, Repairs, Segment, Skipped
from data_prep.sources.mosi_tables import Doubles, Stream, Table, opened
from drcli.amounts import counted
from drcli.errors import DataError

ROLES: Mapping[str, tuple[str, ...]] = {
    "labels": ("Opinion_Labels",),
    "text": ("TimestampedWordVectors",),
    "audio": ("COVAREP", "openSMILE_IS09", "OpenSmile_EB10"),
    "visual": ("Visual_Facet_42", "Visual_Facet_41", "Visual_OpenFace_2", "Visual_OpenFace_1"),
    "words": ("TimestampedWords", "ModifiedTimestampedWords"),
}
"""Names after "CMU_MOSI_" by what the file is for, the preferred first; "words" may be missing."""

INCOMPLETE = frozenset({"c5xsKMxpXnc"})
"""Videos that the official files do not have in every stream."""

NO_FOLD = "in no fold"
"""Why a segment is skipped whose video the standard folds leave out."""

AVERAGED = ("audio", "visual")
"""Modalities whose rows are averaged over words."""


def choose_files(
    paths: Sequence[Path], *, roles: Mapping[str, tuple[str, ...]] = ROLES, prefix: str = "CMU_MOSI_"
) -> dict[str, Path]:
    """The file of each role among those of a folder; "words" may be missing.

    Args:
        paths: the .csd files.
        roles: names by role, as in `ROLES`.
        prefix: what stands before the names, for the message.

    Raises:
        DataError: there is none for another role.
    """
    known = {_plain(path.stem): path for path in reversed(paths)}
    found = {}
    for role, names in roles.items():
        chosen = next((known[_plain(name)] for name in names if _plain(name) in known), None)
        if chosen is not None:
            found[role] = chosen
        elif role != "words":
            wanted = " or ".join(f"{prefix}{name}.csd" for name in names)
            raise DataError(f"{paths[0].parent}: the stream of {role} is missing; it is {wanted}")
    return found


def are_labels_alone(paths: Sequence[Path]) -> bool:
    """Whether no .csd file is there but the labels'."""
    return {_plain(path.stem) for path in paths} <= {_plain(name) for name in ROLES["labels"]}


@dataclass
class Alignment:
    """What does not fit together in time, counted over all videos.

    Attributes:
        words: words in all.
        bare: words that no row overlaps, by modality.
        unsorted: videos whose words are out of time order.
        silences: intervals of silence, and those of them that no word vector has.
    """

    words: int = 0
    bare: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AVERAGED, 0))
    unsorted: list[str] = field(default_factory=list)
    silences: int = 0
    unmatched: int = 0

    def notes(self) -> list[str]:
        """Lines that the user should see."""
        lines = [
            f"{m}: {count} of {self.words} words have no row that overlaps them; their values are 0"
            for m, count in self.bare.items()
            if count
        ]
        if self.unsorted:
            lines.append(
                f"the words of {counted(len(self.unsorted), 'video')}, {self.unsorted[0]} first, are out of time "
                "order; they are sorted by their beginnings"
            )
        if self.unmatched:
            lines.append(
                f"{self.unmatched} of {self.silences} silences are not intervals of the word vectors; "
                "silences that the word vectors give otherwise count as words"
            )
        return lines

    def check(self, files: Mapping[str, Path]) -> None:
        """Refuse files that do not overlap at all.

        Raises:
            DataError: no word has a row of some modality.
        """
        for m, count in self.bare.items():
            if self.words and count == self.words:
                raise DataError(
                    f"{files[m]}: none of its rows overlaps any of the {self.words} words of {files['text'].name}; "
                    "both must count seconds from the beginnings of the same videos: download both again"
                )


def read_csd(
    files: Mapping[str, Path],
    progress: Callable[[int, int], None],
    *,
    fold: Callable[[str], str | None] = fold_of,
    skips_foldless: bool = False,
) -> Contents:
    """The segments of the .csd files that `choose_files` found.

    A segment that has words, but none with a row of some modality, is skipped.

    Args:
        files: file by role.
        progress: called with (videos done, videos).
        fold: the split of a video; None for one that is in none.
        skips_foldless: whether segments of such a video are skipped; else it is refused.

    Raises:
        UsageError: h5py is not installed.
        DataError: a file is damaged, a video belongs to no fold, or the files do not overlap in time.
    """
    repairs, alignment, skipped = Repairs(), Alignment(), list[Skipped]()
    splits: dict[str, list[Segment]] = {split: [] for split in FOLDS}
    with opened(files) as tables:
        videos = tables["labels"].videos
        for done, video in enumerate(videos, start=1):
            split = fold(video)
            if split is None and skips_foldless:
                count = len(tables["labels"].read(video).features)
                skipped += [Skipped(f"{video}[{index}]", NO_FOLD) for index in range(count)]
                continue
            if split is None:
                raise DataError(f"{files['labels']}: {shown(video)} is in none of the standard folds of CMU-MOSI")
            for item in _video(tables, video, repairs, alignment):
                if isinstance(item, Skipped):
                    skipped.append(item)
                else:
                    splits[split].append(item)
            progress(done, len(videos))
    alignment.check(files)
    _check_words(splits, files)
    notes = [] if "words" in files else ["no CMU_MOSI_TimestampedWords.csd: silences cannot be told apart from words"]
    return Contents(splits, is_aligned=True, repairs=repairs, skipped=skipped, notes=[*notes, *alignment.notes()])


def _check_words(splits: Mapping[str, Sequence[Segment]], files: Mapping[str, Path]) -> None:
    segments = [segment for part in splits.values() for segment in part]
    if segments and not any(len(segment.streams["text"]) for segment in segments):
        raise DataError(
            f"{files['labels']}: no word of {files['text'].name} lies in any of its {len(segments)} segments; "
            "both must count seconds from the beginnings of the same videos: download both again"
        )


def _video(
    tables: Mapping[str, Table], video: str, repairs: Repairs, alignment: Alignment
) -> Iterator[Segment | Skipped]:
    """A video's segments, and those that cannot be made."""
    labels = tables["labels"].read(video)
    missing = [role for role in MODALITIES if video not in tables[role].videos]
    if missing:
        for index in range(len(labels.features)):
            yield Skipped(f"{video}[{index}]", "missing stream", ", ".join(missing))
        return
    text = _spoken(tables, video, alignment)
    streams = {"text": text.features}
    has_rows = {}
    for m in AVERAGED:
        streams[m], has_rows[m] = average(tables[m].read(video), text.intervals)
        alignment.bare[m] += int(np.count_nonzero(~has_rows[m]))
    alignment.words += len(text.intervals)
    for index, (start, end) in enumerate(labels.intervals.tolist()):
        inside, name = text.overlapping(start, end), f"{video}[{index}]"
        absent = [m for m in AVERAGED if inside.any() and not has_rows[m][inside].any()]
        if absent:
            yield Skipped(name, "no rows", ", ".join(absent))
        else:
            rows = {m: repairs.finite(m, stream[inside]) for m, stream in streams.items()}
            yield Segment(name, float(labels.features[index, 0]), rows)


def _spoken(tables: Mapping[str, Table], video: str, alignment: Alignment) -> Stream:
    """The vectors of a video's words in the order of time, without silences."""
    text = tables["text"].read(video)
    if "words" in tables and video in tables["words"].videos:
        text = _without_silence(text, tables["words"].read_words(video), alignment)
    order = np.argsort(text.intervals[:, 0], kind="stable")
    if np.any(np.diff(order) < 0):
        alignment.unsorted.append(video)
    return text.take(order)


def average(stream: Stream, intervals: Doubles) -> tuple[Doubles, NDArray[np.bool_]]:
    """Mean of the rows that overlap each interval.

    Args:
        stream: rows (n, D) with their times.
        intervals: (W, 2) in seconds.

    Returns:
        (W, D) means, 0 where no row overlaps; (W,) whether one does.
    """
    means = np.zeros((len(intervals), stream.features.shape[1]))
    has_rows = np.zeros(len(intervals), dtype=bool)
    with np.errstate(invalid="ignore", over="ignore"):  # -inf and +inf together give NaN
        for word, (start, end) in enumerate(intervals.tolist()):
            rows = stream.features[stream.overlapping(start, end)]
            has_rows[word] = len(rows) > 0
            if len(rows):
                means[word] = rows.mean(axis=0, dtype=np.float64)
    return means, has_rows


def _without_silence(vectors: Stream, words: Stream, alignment: Alignment) -> Stream:
    silent = words.features[:, 0] == b"sp"
    silences = {tuple(interval) for interval in words.intervals[silent].round(4).tolist()}
    given = [tuple(interval) for interval in vectors.intervals.round(4).tolist()]
    alignment.silences += len(silences)
    alignment.unmatched += len(silences.difference(given))
    return vectors.take(np.array([interval not in silences for interval in given], dtype=bool))


def _plain(name: str) -> str:
    """Letters and digits of a file's name after "CMU_MOSI_" or "CMU_MOSEI_": old and new spellings become one."""
    return re.sub("[^a-z0-9]", "", name.lower()).removeprefix("cmumosi").removeprefix("cmumosei")
