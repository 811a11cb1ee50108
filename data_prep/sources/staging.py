"""Samples that come one after another, from anywhere: written to files as they come, and read back as arrays.

Nobody knows beforehand how many samples there are, and how long their sequences. What is in memory is one sample, its
label's number, and the length of each sequence.
"""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.array_files import LABELS, LENGTHS, PRESENT, Contents, Kind, check_name
from data_prep.sources.npz import Array
from data_prep.sources.staged import Staged, Steps
from drcli.data.format import SPLITS
from drcli.errors import DataError
from drcli.registry import known

Sample = tuple[Mapping[str, Any], Any]
"""The arrays of a sample by modality, and its class."""

_EVERY = 100
"""Samples between two reports of progress."""


@dataclass
class Column:
    """One modality of a split while it is written.

    Attributes:
        file: what is written.
        dtype: type in the file.
        shape: of a sample; of sequences, of a step.
        is_ragged: whether samples are sequences, of any length each.
        bound: most steps of one; longer ones are cut.
        lengths: steps of each sample.
        present: which samples have the modality.
        cut: how many sequences were cut.
    """

    file: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_ragged: bool
    bound: int | None = None
    lengths: array[int] = field(default_factory=lambda: array("q"))
    present: bytearray = field(default_factory=bytearray)
    cut: int = 0

    def __post_init__(self) -> None:
        self._stream = self.file.open("wb")

    @classmethod
    def of(cls, value: Array, kind: Kind | None, file: Path, bound: int | None) -> Column:
        """Begin with the first sample that has the modality; its numbers decide on type and shape.

        Raises:
            ValueError: they are no real numbers.
        """
        ragged = (value.ndim == 2 and kind != "array") or (value.ndim == 1 and kind == "tokens")
        return cls(file, _stored(value.dtype), value.shape[1:] if ragged else value.shape, ragged, bound)

    def like(self, file: Path) -> Column:
        """Begin the same modality of another split."""
        return Column(file, self.dtype, self.shape, self.is_ragged, self.bound)

    def add(self, value: Array | None) -> None:
        """Write the next sample; None is one that lacks the modality.

        Raises:
            ValueError: it has another shape or type than those before it, or values that are not finite.
        """
        self.present.append(value is not None)
        if value is None:
            self.lengths.append(0)
            if not self.is_ragged:
                self._stream.write(np.zeros(self.shape, self.dtype).tobytes())
            return
        value = self._fitting(value)
        self.lengths.append(len(value) if self.is_ragged else 0)
        self._stream.write(np.ascontiguousarray(value).tobytes())

    def _fitting(self, value: Array) -> Array:
        there = value.shape[1:] if self.is_ragged and value.ndim else value.shape
        if there != self.shape or value.ndim != len(self.shape) + self.is_ragged:
            before = ("L", *self.shape) if self.is_ragged else self.shape
            text = f"({', '.join(map(str, before))}{',' if len(before) == 1 else ''})"
            raise ValueError(f"has the shape {value.shape}, samples before it {text}; {_SHAPES}")
        if _stored(value.dtype) != self.dtype != np.dtype("float32"):
            raise ValueError(f"is {value.dtype}, samples before it {self.dtype}; convert all to one type")
        if self.is_ragged and self.bound is not None and len(value) > self.bound:
            value, self.cut = value[: self.bound], self.cut + 1
        with np.errstate(over="ignore"):  # what overflows is refused
            found = value.astype(self.dtype, copy=False)
        if not np.isfinite(found).all():
            raise ValueError(f"has values that are NaN, infinite or beyond {self.dtype}; replace them, or give None")
        return found

    def close(self) -> None:
        """End the file."""
        self._stream.close()


_SHAPES = "make them the same; sequences that are not equally long are (L, D) each, or (L,) of the kind tokens"


def _stored(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which numbers are staged: integers may be token ids."""
    if dtype.kind not in "iuf":
        raise ValueError(f"has the type {dtype}; a modality holds real numbers: convert it")
    if dtype in {np.dtype("float16"), np.dtype("uint8")}:
        return dtype
    return np.dtype("int64" if dtype.kind in "iu" else "float32")


def ordered(splits: Mapping[str, Any], origin: str) -> list[str]:
    """Return the names of splits, train first.

    Raises:
        DataError: train or test is missing, or a name is none of a split.
    """
    for name in splits:
        if name not in SPLITS:
            raise DataError(f"{origin}: {name!r} is no split; {known(name, SPLITS)}")
    for name in ("train", "test"):
        if name not in splits:
            raise DataError(f"{origin}: split {name!r} is missing (there: {', '.join(splits)}); val alone may be drawn")
    return [name for name in SPLITS if name in splits]


class Staging:
    """Splits that are written sample by sample, train first: it decides on names, types and shapes.

    Args:
        folder: an existing, empty folder for the files.
        origin: what the samples come from, for messages.
        kinds: of modalities, as `dataset.prepare.kinds`.
        longest: most steps of sequences and tokens, by modality; longer ones are cut.
        classes: names of the classes, of which labels are then numbers or names.
    """

    def __init__(
        self,
        folder: Path,
        origin: str,
        *,
        kinds: Mapping[str, Kind],
        longest: Mapping[str, int],
        classes: Sequence[str] | None = None,
    ) -> None:
        self.folder = folder
        self.origin = origin
        self.kinds = kinds
        self.longest = longest
        self.classes = classes
        self.columns: dict[str, dict[str, Column]] = {}
        self.labels: dict[str, _Labels] = {}
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """Digest of all samples, in their order."""
        return self._digest.hexdigest()

    def add(self, split: str, samples: Iterable[Any], progress: Callable[[str, int, int], None]) -> None:
        """Write the samples of a split.

        Args:
            split: its name.
            samples: pairs of a mapping {modality: array} and a label.
            progress: called with (stage, samples done, samples in all as far as it is known).

        Raises:
            DataError: a sample is no such pair, or is not like those before it.
        """
        (self.folder / split).mkdir()
        self._digest.update(f"{split}\n".encode())
        first = next(iter(self.columns.values()), {})
        columns = {m: column.like(self.folder / split / m) for m, column in first.items()}
        self.columns[split], labels = columns, self.labels.setdefault(split, _Labels(self.classes))
        try:
            for number, sample in enumerate(_each(samples)):
                self._add(split, number, sample)
                if number % _EVERY == _EVERY - 1:
                    progress(f"reading {split}", number + 1, number + 1)
        finally:
            for column in columns.values():
                column.close()
        if not labels.numbers:
            raise DataError(f"{self.origin}, split {split}: has no samples; a generator gives them once only")

    def _add(self, split: str, number: int, sample: Any) -> None:
        try:
            values, label = _pair(sample)
            self.labels[split].add(label)
            self._add_values(split, number, values)
        except _NamedError as error:
            raise DataError(f"{self.origin}, split {split}, sample {number}: {error}") from error
        self._digest.update(repr(self.labels[split].last).encode())

    def _add_values(self, split: str, number: int, values: Mapping[str, Any]) -> None:
        columns = self.columns[split]
        for m in [*columns, *(m for m in values if m not in columns)]:
            value = values.get(m)
            try:
                found = None if value is None else as_array(value)
                if m not in columns:
                    if found is None:
                        continue  # until the first sample that has it
                    columns[m] = self._new(split, m, found, number)
                columns[m].add(found)
            except (ValueError, TypeError) as error:
                raise _NamedError(f"{m!r} {error}") from error
            self._digest.update(f"{m} {found is not None and found.shape}".encode())
            self._digest.update(b"" if found is None else np.ascontiguousarray(found).tobytes())

    def _new(self, split: str, modality: str, value: Array, before: int) -> Column:
        if split != next(iter(self.columns)):
            raise ValueError(f"is in no sample of {next(iter(self.columns))}; add it there, or leave it out here")
        check_name(modality)
        bound = self.longest.get(modality)
        column = Column.of(value, self.kinds.get(modality), self.folder / split / modality, bound)
        for _ in range(before):
            column.add(None)
        return column

    def contents(self) -> dict[str, Contents]:
        """What was written, as the arrays of files by split."""
        longest = {m: max(max(split[m].lengths) for split in self.columns.values()) for m in self._ragged()}
        padded = {m for m in longest if any(set(s[m].lengths) != {longest[m]} for s in self.columns.values())}
        masked = {m for split in self.columns.values() for m, column in split.items() if not all(column.present)}
        return {split: self._contents(split, longest, padded, masked) for split in self.columns}

    def _ragged(self) -> list[str]:
        return [m for m, column in next(iter(self.columns.values())).items() if column.is_ragged]

    def _contents(self, split: str, longest: Mapping[str, int], padded: set[str], masked: set[str]) -> Contents:
        found = {LABELS: self._kept(split, LABELS, self.labels[split].values())}
        for m, column in self.columns[split].items():
            rows, lengths = len(column.present), np.asarray(column.lengths, np.int64)
            shape = (rows, longest[m], *column.shape) if m in longest else (rows, *column.shape)
            common = (self.folder / split, m, shape, column.dtype, False, column.file, self.origin)
            found[m] = Steps(*common, lengths) if m in longest else Staged(*common)
            if m in padded:
                found[m + LENGTHS] = self._kept(split, m + LENGTHS, lengths)
            if m in masked:
                found[m + PRESENT] = self._kept(split, m + PRESENT, np.frombuffer(column.present, np.bool_))
        return found

    def _kept(self, split: str, name: str, values: Array) -> Staged:
        file = self.folder / split / f"{name}.column"
        values.tofile(file)
        return Staged(
            self.folder / split, name, values.shape, values.dtype, is_fortran=False, file=file, origin=self.origin
        )

    def warnings(self) -> Iterator[str]:
        """Yield a line for each modality of which sequences were cut, or are mostly padding."""
        for m in self._ragged():
            columns = [split[m] for split in self.columns.values()]
            cut, rows = sum(column.cut for column in columns), sum(len(column.present) for column in columns)
            if cut:
                yield f"{m}: {cut} of {rows} samples had more than {self.longest[m]} steps and were cut"
            most = max(max(column.lengths) for column in columns)
            mean = sum(sum(column.lengths) for column in columns) / rows
            if most > _OUTLIER * mean:
                yield f"{m}: the longest has {most} steps, the mean is {mean:.1f}: `longest` cuts what is beyond it"


_OUTLIER = 4
"""How many times as long as the mean the longest sequence may be before the reader is told what it costs."""


class _NamedError(ValueError):
    """What is wrong with a sample, with the name of the modality."""


class _Labels:
    """The classes of the samples of a split, as numbers of the distinct labels."""

    def __init__(self, classes: Sequence[str] | None) -> None:
        self.classes = classes
        self.names: dict[int | str, int] = {} if classes is None else {name: k for k, name in enumerate(classes)}
        self.numbers = array("q")
        self.last: int | str = 0

    def add(self, label: Any) -> None:
        """Add the label of the next sample."""
        self.last = _label(label)
        if self.classes is None:
            self.numbers.append(self.names.setdefault(self.last, len(self.names)))
            return
        number = self.names.get(self.last) if isinstance(self.last, str) else self.last
        if number is None or not 0 <= number < len(self.classes):
            raise _NamedError(f"label {self.last!r} is none of the {len(self.classes)} classes; correct it")
        self.numbers.append(number)

    def values(self) -> Array:
        """Labels (N,), integers or text; of given classes, their numbers."""
        numbers = np.asarray(self.numbers, np.int64)
        if self.classes is not None:
            return numbers
        if len({type(name) for name in self.names}) > 1:
            raise DataError("labels are partly numbers and partly text; make them one of both")
        return np.array(list(self.names))[numbers]


def _label(label: Any) -> int | str:
    if isinstance(label, str):
        return label
    value = label.item() if hasattr(label, "item") and math.prod(getattr(label, "shape", ())) == 1 else label
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    if getattr(label, "shape", ()):
        raise _NamedError(f"its label has the shape {tuple(label.shape)}; give samples, not batches of a DataLoader")
    raise _NamedError(f"its label is {type(label).__name__}; it must be an integer or text, the sample's class")


def _pair(sample: Any) -> Sample:
    if isinstance(sample, tuple | list) and len(sample) == 2 and isinstance(sample[0], Mapping) and sample[0]:
        return sample[0], sample[1]
    raise _NamedError(f"it is {type(sample).__name__}; it must be a pair: {{modality: array}} and the label")


def _each(samples: Any) -> Iterator[Any]:
    """The samples of anything that has them: an iterable, or a torch Dataset, which may have no end of its own."""
    if hasattr(samples, "__getitem__") and hasattr(samples, "__len__") and not hasattr(samples, "__iter__"):
        return (samples[number] for number in range(len(samples)))
    return iter(samples)


def as_array(value: Any) -> Array:
    """A sample's modality as an array: an array, a tensor, numbers in lists, or a picture of Pillow, channels first.

    Raises:
        ValueError: numbers in lists are not equally many.
        TypeError: it is nothing of this kind.
    """
    if hasattr(value, "getbands"):
        found = np.asarray(value)
        return found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    found = np.asarray(value)
    if found.dtype == object:
        raise TypeError(f"is {type(value).__name__}, which is no array of numbers; convert it")
    return found
