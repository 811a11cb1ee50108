"""CMU-MOSI from the computational sequences (.csd) of the CMU SDK.

A .csd is an HDF5 file <root>/data/<video>/{features (n, D), intervals (n, 2) in seconds}. As the SDK does,
audio and visual rows are averaged over the words that they overlap, and words are taken into the opinion
segment that they overlap; silences ("sp") are no words. The folds are the standard ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.media.container import extra
from data_prep.sources.mosi_folds import FOLDS, fold_of
from data_prep.sources.mosi_segments import MODALITIES, Contents, Repairs, Segment, Skipped
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

_EPSILON = 1e-5  # seconds; a shorter overlap is rounding, as in the SDK

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Stream:
    """One video's rows of a file: features (n, D) and intervals (n, 2) in seconds."""

    features: NDArray[Any]
    intervals: Doubles

    def take(self, rows: NDArray[np.bool_]) -> Stream:
        """The rows that are marked (n,)."""
        return Stream(self.features[rows], self.intervals[rows])

    def overlapping(self, start: float, end: float) -> NDArray[np.bool_]:
        """Which rows lie in the interval, at least in part, (n,)."""
        inside: NDArray[np.bool_] = (
            np.minimum(self.intervals[:, 1], end) - np.maximum(self.intervals[:, 0], start) > _EPSILON
        )
        return inside


def choose_files(paths: Sequence[Path]) -> dict[str, Path]:
    """The file of each role among those of a folder; "words" may be missing.

    Raises:
        DataError: there is none for another role.
    """
    known = {_plain(path.stem): path for path in reversed(paths)}
    found = {}
    for role, names in ROLES.items():
        chosen = next((known[_plain(name)] for name in names if _plain(name) in known), None)
        if chosen is not None:
            found[role] = chosen
        elif role != "words":
            wanted = " or ".join(f"CMU_MOSI_{name}.csd" for name in names)
            raise DataError(f"{paths[0].parent}: the stream of {role} is missing; it is {wanted}")
    return found


def read_csd(files: Mapping[str, Path], progress: Callable[[int, int], None]) -> Contents:
    """The segments of the .csd files that `choose_files` found.

    Args:
        files: file by role.
        progress: called with (videos done, videos).

    Raises:
        UsageError: h5py is not installed.
        DataError: a file is damaged, or a video belongs to no fold.
    """
    repairs, skipped = Repairs(), list[Skipped]()
    splits: dict[str, list[Segment]] = {split: [] for split in FOLDS}
    with _opened(files) as tables:
        videos = tables["labels"].videos
        for done, video in enumerate(videos, start=1):
            split = fold_of(video)
            if split is None:
                raise DataError(f"{files['labels']}: {video!r} is in none of the standard folds of CMU-MOSI")
            labels = tables["labels"].read(video)
            missing = [role for role in MODALITIES if video not in tables[role].videos]
            if missing:
                skipped += [
                    Skipped(f"{video}[{index}]", "missing stream", ", ".join(missing))
                    for index in range(len(labels.features))
                ]
            else:
                splits[split] += _segments(video, labels, _word_streams(tables, video), repairs)
            progress(done, len(videos))
    notes = [] if "words" in files else ["no CMU_MOSI_TimestampedWords.csd: silences cannot be told from words"]
    return Contents(splits, is_aligned=True, repairs=repairs, skipped=skipped, notes=notes)


def _word_streams(tables: Mapping[str, _Table], video: str) -> dict[str, Stream]:
    """One row a word in every modality."""
    text = tables["text"].read(video)
    if "words" in tables and video in tables["words"].videos:
        text = _without_silence(text, tables["words"].read_words(video))
    streams = {"text": text}
    for m in ("audio", "visual"):
        streams[m] = Stream(average(tables[m].read(video), text.intervals), text.intervals)
    return streams


def _segments(video: str, labels: Stream, streams: Mapping[str, Stream], repairs: Repairs) -> Iterator[Segment]:
    """A video's segments; one that overlaps no word has streams of no steps."""
    for index, (start, end) in enumerate(labels.intervals.tolist()):
        inside = streams["text"].overlapping(start, end)
        yield Segment(
            f"{video}[{index}]",
            float(labels.features[index, 0]),
            {m: repairs.finite(m, stream.features[inside]) for m, stream in streams.items()},
        )


def average(stream: Stream, intervals: Doubles) -> Doubles:
    """Mean of the rows that overlap each interval, (W, 2) -> (W, D); 0 where there is none."""
    means = np.zeros((len(intervals), stream.features.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):  # -inf and +inf together give NaN
        for word, (start, end) in enumerate(intervals.tolist()):
            rows = stream.features[stream.overlapping(start, end)]
            if len(rows):
                means[word] = rows.mean(axis=0, dtype=np.float64)
    return means


def _without_silence(vectors: Stream, words: Stream) -> Stream:
    silent = words.features[:, 0] == b"sp"
    silences = {tuple(interval) for interval in words.intervals[silent].round(4).tolist()}
    spoken = [tuple(interval) not in silences for interval in vectors.intervals.round(4).tolist()]
    return vectors.take(np.array(spoken, dtype=bool))


class _Table:
    """One open .csd file.

    Attributes:
        videos: the ids of its videos, in order.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        try:
            self._data = file[next(iter(file))]["data"]
            self.videos = sorted(self._data)
        except (KeyError, StopIteration, TypeError, ValueError) as error:
            raise DataError(f"{path}: no <name>/data in this HDF5 file; is it a .csd of the CMU SDK?") from error

    def read(self, video: str) -> Stream:
        """The numbers of a video."""
        return self._read(video, "float64")

    def read_words(self, video: str) -> Stream:
        """The words of a video, as bytes."""
        return self._read(video, "object")

    def _read(self, video: str, dtype: str) -> Stream:
        try:
            features = np.asarray(self._data[video]["features"]).astype(dtype)
            intervals = np.asarray(self._data[video]["intervals"]).astype(np.float64)
        except (KeyError, TypeError, ValueError, OSError, RuntimeError, MemoryError) as error:
            raise DataError(f"{self.path}: {video} cannot be read ({error}); download it again") from error
        well_formed = features.ndim >= 2 and features.shape[1] > 0 and intervals.shape == (len(features), 2)
        if not well_formed or not np.isfinite(intervals).all():
            raise DataError(
                f"{self.path}: {video} has features {features.shape} and intervals {intervals.shape}, "
                "expected (n, D) and (n, 2), in seconds"
            )
        return Stream(features.reshape(len(features), int(np.prod(features.shape[1:]))), intervals)


@contextmanager
def _opened(files: Mapping[str, Path]) -> Iterator[dict[str, _Table]]:
    h5py = extra("h5py")
    handles, tables = [], {}
    try:
        for role, path in files.items():
            try:
                handles.append(h5py.File(path, "r"))
            except OSError as error:
                raise DataError(f"{path}: not a readable HDF5 file ({error}); download it again") from error
            tables[role] = _Table(path, handles[-1])
        yield tables
    finally:
        for handle in handles:
            handle.close()


def _plain(name: str) -> str:
    """Letters and digits of a file's name after "CMU_MOSI_": old and new spellings become one."""
    return re.sub("[^a-z0-9]", "", name.lower()).removeprefix("cmumosi")
