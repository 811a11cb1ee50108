"""Writes a prepared dataset: arrays as preallocated memory maps, then `dataset.json` last.

An array that would be larger than `allocation.LARGEST_FILE` is several files, and is filled as if it were one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.writing.allocation import allocate, allocate_array
from data_prep.writing.statistics import ROUNDING, is_constant, pieces_of, statistics
from drcli.data.format import (
    FORMAT_VERSION,
    IDS_FILE,
    INFO_FILE,
    KINDS,
    LABELS_FILE,
    MASKED_VERSION,
    PARTED_VERSION,
    TOKENS_VERSION,
    VALUED_VERSION,
    DatasetInfo,
    ModalityInfo,
    Statistics,
    data_files,
    file_sha256,
    lengths_file,
    pool_files,
    present_file,
    read_info,
)
from drcli.data.info_checks import ID_DTYPE, SMALLEST_STD, WITH_LENGTHS, token_ids
from drcli.data.parts import PartedArray, Stored
from drcli.data.target import CLASS_DTYPE, VALUE_DTYPE, Regression
from drcli.errors import DataError
from drcli.files import sync


class SplitWriter:
    """One split: labels and ids are written at once, arrays are opened and filled row by row.

    Args:
        folder: where the split's files go; made here.
        labels: (N,) class index of each row, or its value.
        ids: N names; rows that share one are several draws of one sample.
        dtype: of the labels.
    """

    def __init__(self, folder: Path, labels: Sequence[float], ids: Sequence[str], dtype: str = CLASS_DTYPE) -> None:
        assert len(labels) == len(ids)
        assert not any("\n" in name for name in ids)
        folder.mkdir()
        self.folder = folder
        self.rows = len(ids)
        self.samples = len(set(ids))
        self.arrays: dict[str, Stored] = {}
        self.kinds: dict[str, str] = {}
        self.constants: dict[str, Statistics] = {}
        self.steps: dict[str, NDArray[np.int64]] = {}
        self.masks: dict[str, NDArray[np.bool_]] = {}
        self.pools: dict[str, Stored] = {}
        self.ids: dict[str, tuple[int, int]] = {}
        self.names: tuple[str, ...] = tuple(ids)
        allocate(folder / LABELS_FILE, (self.rows,), dtype)[:] = labels
        (folder / IDS_FILE).write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")

    def array(
        self,
        modality: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        kind: str = "array",
        statistics: Statistics | None = None,
    ) -> Stored:
        """A memory map (N, *shape) to be filled, preallocated so that a full disk shows here.

        One of several files is filled in the same way, by row numbers, slices of rows, row numbers in an array or
        masks; see `drcli.data.parts.PartedArray`.

        Args:
            modality: its name, which names the file too.
            shape: shape of one row.
            dtype: numpy name of the stored type.
            kind: what the axes are: one of `drcli.data.format.KINDS`.
            statistics: mean and standard deviation by channel where the literature fixes them; by
                default they are measured over the training split.
        """
        assert kind in KINDS
        self.arrays[modality] = allocate_array(self.folder, modality, (self.rows, *shape), dtype)
        self.kinds[modality] = kind
        if statistics is not None:
            self.constants[modality] = statistics
        return self.arrays[modality]

    def tokens(self, modality: str, length: int, *, vocabulary: int, pad: int = 0) -> Stored:
        """A memory map (N, length), int32, for the token ids of a text, filled with `pad`; see `array`.

        `lengths` says how many of each row are the text's.

        Args:
            modality: its name.
            length: tokens of the longest row.
            vocabulary: number of ids; they run from 0.
            pad: the id that fills the padding.

        Raises:
            DataError: there are too many ids, or the padding's is none of them.
        """
        try:
            self.ids[modality] = token_ids({"vocabulary": vocabulary, "pad": pad}, f"modality {modality}:")
        except ValueError as error:
            raise DataError(f"{error}; check what made the ids") from error
        array = self.array(modality, (length,), ID_DTYPE, kind="tokens", statistics=((0.0,), (1.0,)))
        array[:] = pad
        return array

    def lengths(self, modality: str, lengths: Sequence[int]) -> None:
        """Write the number of valid steps of each row of a sequence or of tokens, (N,) in 0 ... L."""
        assert self.kinds[modality] in WITH_LENGTHS
        assert len(lengths) == self.rows
        self.steps[modality] = np.asarray(lengths, dtype=np.int64)
        allocate(self.folder / lengths_file(modality), (self.rows,), "int64")[:] = self.steps[modality]

    def present(self, modality: str, mask: NDArray[np.bool_]) -> None:
        """Write which rows have a modality, (N,); the others are to hold zeros, and sequences 0 valid steps."""
        assert mask.shape == (self.rows,)
        self.masks[modality] = mask
        allocate(self.folder / present_file(modality), (self.rows,), "bool")[:] = mask

    def pool(self, modality: str, labels: Sequence[int]) -> Stored:
        """A memory map (P, *shape) for rows of a modality beyond the split's pairs, to be filled.

        Only the training split may have one. The modality's array must have been opened.

        Args:
            modality: its name.
            labels: (P,) class index of each row; every class of the split must occur.
        """
        assert self.kinds[modality] not in WITH_LENGTHS
        array, classes = pool_files(modality)
        allocate(self.folder / classes, (len(labels),), "int64")[:] = labels
        paired = self.arrays[modality]
        shape = (len(labels), *paired.shape[1:])
        self.pools[modality] = allocate_array(self.folder, array, shape, paired.dtype.name)
        return self.pools[modality]

    def sync(self) -> None:
        """Force everything written to the disk."""
        for array in [*self.arrays.values(), *self.pools.values()]:
            assert isinstance(array, np.memmap | PartedArray)
            array.flush()
        for path in self.folder.iterdir():
            sync(path)
        sync(self.folder)


class DatasetWriter:
    """A whole dataset.

    Args:
        root: an existing, empty folder.
        name: registry name of the dataset.
        classes: class names in index order; of a regression, the name of its value alone.
        regression: range of the real value that is to be predicted; None for classes.
    """

    def __init__(
        self, root: Path, *, name: str, classes: tuple[str, ...], regression: Regression | None = None
    ) -> None:
        self.root = root
        self.name = name
        self.classes = classes
        self.regression = regression
        self._splits: dict[str, SplitWriter] = {}

    @property
    def splits(self) -> Mapping[str, SplitWriter]:
        """The splits that there are, by name."""
        return self._splits

    def split(self, name: str, *, labels: Sequence[float], ids: Sequence[str]) -> SplitWriter:
        """Begin a split of len(labels) rows."""
        dtype = CLASS_DTYPE if self.regression is None else VALUE_DTYPE
        self._splits[name] = SplitWriter(self.root / name, labels, ids, dtype)
        return self._splits[name]

    def finish(self, *, settings: Mapping[str, Any], source: Mapping[str, Any]) -> DatasetInfo:
        """Write `dataset.json`, after every other file has reached the disk.

        Args:
            settings: the `dataset.prepare` block.
            source: what the arrays were made from; "fingerprint" and "limit" at least.

        Raises:
            DataError: a modality is constant over the training split, has values that are not finite, or axes
                that are not those of its kind; class names are not distinct.
        """
        for split, writer in self._splits.items():
            writer.sync()
            for modality, array in writer.arrays.items():
                _check_finite(f"modality {modality}", array, split)
                if modality in writer.ids:
                    _check_ids(modality, array, split, writer.ids[modality][0])
        train = self._splits["train"]
        assert not any(writer.pools for writer in self._splits.values() if writer is not train)
        for modality, array in train.pools.items():
            _check_finite(f"the pool of {modality}", array, "train")
        pools = {m: len(array) for m, array in train.pools.items()}
        modalities = {m: _describe(m, array, train) for m, array in train.arrays.items()}
        rows = {split: writer.rows for split, writer in self._splits.items()}
        file_rows = _file_rows(self._splits.values())
        info = DatasetInfo(
            name=self.name,
            classes=self.classes,
            modalities=modalities,
            rows=rows,
            samples={split: writer.samples for split, writer in self._splits.items()},
            settings=dict(settings),
            source=dict(source),
            sha256={path: file_sha256(self.root / path) for path in data_files(modalities, pools, rows, file_rows)},
            format_version=PARTED_VERSION if file_rows else _version(train, self.regression),
            pools=pools,
            regression=self.regression,
            file_rows=file_rows,
        )
        (self.root / INFO_FILE).write_text(info.to_json(), encoding="utf-8")
        sync(self.root / INFO_FILE)
        sync(self.root)
        return read_info(self.root)  # nothing is published that could not be opened


def _file_rows(splits: Iterable[SplitWriter]) -> dict[str, int]:
    """Rows of a file, by modality that has an array in several files."""
    arrays = [item for part in splits for item in (*part.arrays.items(), *part.pools.items())]
    found: dict[str, int] = {}
    for m, array in arrays:
        if isinstance(array, PartedArray):
            assert found.setdefault(m, array.file_rows) == array.file_rows
    return found


def _version(train: SplitWriter, regression: Regression | None) -> int:
    """The lowest version of the format that says all that is stored, where each array has one file."""
    if regression is not None:
        return VALUED_VERSION
    if train.ids:
        return TOKENS_VERSION
    return MASKED_VERSION if train.masks else FORMAT_VERSION


def _check_ids(modality: str, array: Stored, split: str, vocabulary: int) -> None:
    for start, piece in pieces_of(array):
        is_bad = ((piece < 0) | (piece >= vocabulary)).any(axis=1)
        if is_bad.any():
            row = piece[is_bad.argmax()]
            raise DataError(
                f"modality {modality} has token ids from {row.min()} to {row.max()} in split {split}, row "
                f"{start + int(is_bad.argmax())}; allowed are 0 to {vocabulary - 1}: check what made them"
            )


def _check_finite(what: str, array: Stored, split: str) -> None:
    if array.dtype.kind != "f":
        return
    for start, piece in pieces_of(array):
        is_bad = ~np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if is_bad.any():
            raise DataError(
                f"{what} is not finite in split {split}, row {start + int(is_bad.argmax())} first; check the source "
                f"files, or values beyond the range of {array.dtype.name}"
            )


def _describe(modality: str, array: Stored, writer: SplitWriter) -> ModalityInfo:
    """Shape, type, kind, mean and standard deviation of a modality."""
    kind, mask, steps = writer.kinds[modality], writer.masks.get(modality), writer.steps.get(modality)
    if is_constant(array, kind, steps, mask):
        raise DataError(
            f"modality {modality} is constant over the training split and says nothing about the class; check the "
            "source files, or leave the modality out"
        )
    mean, std = writer.constants.get(modality) or statistics(array, kind, steps, mask)
    for center, spread in zip(mean, std, strict=True):
        if not spread >= max(SMALLEST_STD, ROUNDING * abs(center)):
            raise DataError(
                f"modality {modality} varies by {spread:g} around {center:g} over the training split, less than "
                "float32 can resolve; subtract the offset, or give it in other units"
            )
    ids = writer.ids.get(modality, (0, 0))
    return ModalityInfo(array.shape[1:], array.dtype.name, tuple(mean), tuple(std), kind, mask is not None, *ids)
