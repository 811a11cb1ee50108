"""CMU-MOSI from the pickles in use: those of CMU and MultiBench, and those of MMSA.

Both are dicts {train, valid, test: {text, audio, vision, id, ...}} of arrays (N, L, D).

CMU and MultiBench (`mosi_data`, `mosi_data_noalign`, `mosi_raw`) pad at the front with zeros and store no
lengths. As MultiBench reads them, a segment begins at the first row that is not all zero: of the text for
all modalities where these are aligned (of equal L), of each modality for itself otherwise.

MMSA (`aligned_50`, `unaligned_50`) pads at the end. The valid steps of the text are those of BERT's
attention mask, `text_bert[:, 1]`; audio and vision have as many where they are aligned, and
`audio_lengths`, `vision_lengths` otherwise, as MMSA's own models use them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.mosi_segments import MODALITIES, Contents, Floats, Repairs, Segment, first_step, real_numbers
from data_prep.sources.pickle_values import plain_text
from data_prep.sources.restricted_pickle import load_pickle
from drcli.amounts import counted
from drcli.errors import DataError

FOLD_KEYS = {"train": "train", "val": "valid", "test": "test"}
STREAM_KEYS = {"text": "text", "audio": "audio", "visual": "vision"}

Range = tuple[int, int]


def read_pickle(path: Path, *, is_mmsa: bool) -> Contents:
    """The segments of a pickle.

    Args:
        path: the file.
        is_mmsa: whether it is laid out as MMSA's, or as CMU's and MultiBench's.

    Raises:
        DataError: the file is damaged or unsafe, keys are missing, or shapes disagree.
    """
    table = load_pickle(path)
    reader = _MmsaFold if is_mmsa else _CmuFold
    repairs = Repairs()
    entries = {split: (key, _entry(table, key, str(path))) for split, key in FOLD_KEYS.items()}
    table.clear()
    folds = {}
    for split in FOLD_KEYS:
        key, entry = entries.pop(split)  # what the fold copies of it is freed after it
        folds[split] = reader(f"{path}: {key}", entry, repairs)
    return Contents(
        splits={split: fold.segments() for split, fold in folds.items()},
        is_aligned=all(fold.is_aligned for fold in folds.values()),
        repairs=repairs,
        notes=[note for fold in folds.values() for note in fold.notes()],
    )


class _Fold(ABC):
    """One split of a pickle.

    Args:
        where: file and key, for messages.
        entry: the split's dict.
        repairs: counts the values that are not finite.
    """

    label_key: str

    def __init__(self, where: str, entry: Any, repairs: Repairs) -> None:
        self.where = where
        self.entry = entry
        self.streams = {m: self._stream(m, repairs) for m in MODALITIES}
        self.entry = {key: value for key, value in entry.items() if key not in STREAM_KEYS.values()}
        self.num_segments = len(self.streams["text"])
        for m, stream in self.streams.items():
            self._check_count(STREAM_KEYS[m], len(stream))
        self.ids = self._ids()
        self.labels = self._column(self.label_key, float)
        self.is_aligned = len({stream.shape[1] for stream in self.streams.values()}) == 1

    @abstractmethod
    def ranges(self) -> dict[str, list[Range]]:
        """First valid step and the one after the last, {m: N pairs}."""

    def notes(self) -> list[str]:
        """Lines that the user should see."""
        return []

    def segments(self) -> list[Segment]:
        """The segments, padding removed."""
        ranges = self.ranges()
        return [
            Segment(name, label, {m: stream[row][slice(*ranges[m][row])] for m, stream in self.streams.items()})
            for row, (name, label) in enumerate(zip(self.ids, self.labels.tolist(), strict=True))
        ]

    def _stream(self, modality: str, repairs: Repairs) -> Floats:
        key = STREAM_KEYS[modality]
        try:
            stream = repairs.finite(modality, _entry(self.entry, key, self.where), in_place=True)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.where}/{key}: not an array of numbers ({error}); download it again") from error
        if stream.ndim != 3 or 0 in stream.shape:
            raise DataError(f"{self.where}/{key}: shape {stream.shape}, expected (segments, steps, features)")
        return stream

    def _column(self, key: str, kind: type) -> NDArray[Any]:
        """A number for each segment, (N,), whatever axes of size 1 it has."""
        try:
            numbers = real_numbers(_entry(self.entry, key, self.where))
            values: NDArray[Any] = np.array(numbers, dtype=kind).reshape(-1)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{self.where}/{key}: not an array of numbers ({error}); download it again") from error
        self._check_count(key, len(values))
        return values

    def _check_count(self, key: str, count: int) -> None:
        if count != self.num_segments:
            raise DataError(f"{self.where}/{key}: {count} entries for the {self.num_segments} segments of text")

    def _ids(self) -> list[str]:
        value = _entry(self.entry, "id", self.where)
        if not isinstance(value, list | tuple | np.ndarray) or (isinstance(value, np.ndarray) and value.ndim == 0):
            raise DataError(f"{self.where}/id: one {type(value).__name__}, expected the names of the segments")
        self._check_count("id", len(value))
        return [_name(f"{self.where}/id", row) for row in value]


class _CmuFold(_Fold):
    label_key = "labels"

    def ranges(self) -> dict[str, list[Range]]:
        leader = {m: "text" if self.is_aligned else m for m in MODALITIES}
        return {m: [(first_step(row), len(row)) for row in self.streams[leader[m]]] for m in MODALITIES}


class _MmsaFold(_Fold):
    label_key = "regression_labels"

    def ranges(self) -> dict[str, list[Range]]:
        text = [_marked(row) for row in self._mask()]
        if self.is_aligned:
            return dict.fromkeys(MODALITIES, text)
        return {"text": text, "audio": self._given("audio"), "visual": self._given("visual")}

    def notes(self) -> list[str]:
        ranges, lines = self.ranges(), list[str]()
        for m in ("audio", "visual"):  # not text: BERT gives padding a vector of its own
            count = sum(row[stop:].any() for row, (_, stop) in zip(self.streams[m], ranges[m], strict=True))
            if count:
                where = f"{self.where}/{STREAM_KEYS[m]}"
                lines.append(
                    f"{where}: {counted(count, 'segment')} with values after the last valid step; these are not used"
                )
        return lines

    def _mask(self) -> NDArray[np.bool_]:
        steps = self.streams["text"].shape[1]
        try:
            mask = real_numbers(_entry(self.entry, "text_bert", self.where))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.where}/text_bert: not an array of numbers ({error}); download it again") from error
        if mask.shape != (self.num_segments, 3, steps) or mask.dtype.kind not in "biuf":
            expected = (self.num_segments, 3, steps)
            raise DataError(f"{self.where}/text_bert: {mask.dtype} of shape {mask.shape}, expected numbers {expected}")
        return np.asarray(mask[:, 1] > 0)

    def _given(self, modality: str) -> list[Range]:
        key, steps = f"{STREAM_KEYS[modality]}_lengths", self.streams[modality].shape[1]
        lengths = self._column(key, float)
        wrong = np.flatnonzero(~np.isin(lengths, range(steps + 1)))
        if len(wrong):
            row = int(wrong[0])
            raise DataError(f"{self.where}/{key}: {lengths[row]:g} for {self.ids[row]}, which has {steps} steps")
        return [(0, int(length)) for length in lengths]


def _entry(table: Any, key: str, where: str) -> Any:
    if not isinstance(table, Mapping):
        raise DataError(f"{where}: holds a {type(table).__name__}, expected a dict with {key!r}; is it another file?")
    if key not in table:
        held = ", ".join(plain_text(key) for key in sorted(map(str, table))[:10])
        raise DataError(f"{where}: has no {key!r} (it has {held}); another file has the same name, see the README")
    return table[key]


def _marked(mask: NDArray[np.bool_]) -> Range:
    steps = np.flatnonzero(mask)
    return (int(steps[0]), int(steps[-1]) + 1) if len(steps) else (0, 0)


def _name(where: str, row: Any) -> str:
    """A segment's name: text, or (video, start, end) as "video[start,end]"."""
    parts: Sequence[Any] = row.reshape(-1).tolist() if isinstance(row, np.ndarray) else [row]
    if isinstance(row, list | tuple):
        parts = row
    texts = [part.decode("utf-8", "replace") if isinstance(part, bytes) else str(part) for part in parts]
    name = f"{texts[0]}[{','.join(texts[1:])}]" if len(texts) > 1 else "".join(texts)
    if not name.isprintable() or not 0 < len(name) <= 200:
        raise DataError(f"{where}: {name[:50]!a} is not the name of a segment")
    return name
