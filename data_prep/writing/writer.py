"""Writes a prepared dataset: arrays as preallocated memory maps, then `dataset.json` last."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.data.format import (
    FORMAT_VERSION,
    IDS_FILE,
    INFO_FILE,
    KINDS,
    LABELS_FILE,
    MASKED_VERSION,
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
from drcli.data.target import CLASS_DTYPE, VALUE_DTYPE, Regression
from drcli.errors import DataError
from drcli.files import sync

_CHUNK_BYTES = 64 * 2**20  # of float64, while statistics are taken
_ROUNDING = 1e-12  # of float64 sums over many values: a smaller standard deviation, relative to the mean, is none


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
        self.arrays: dict[str, NDArray[Any]] = {}
        self.kinds: dict[str, str] = {}
        self.constants: dict[str, Statistics] = {}
        self.steps: dict[str, NDArray[np.int64]] = {}
        self.masks: dict[str, NDArray[np.bool_]] = {}
        self.pools: dict[str, NDArray[Any]] = {}
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
    ) -> NDArray[Any]:
        """A memory map (N, *shape) to be filled, preallocated so that a full disk shows here.

        Args:
            modality: its name, which names the file too.
            shape: shape of one row.
            dtype: numpy name of the stored type.
            kind: what the axes are: one of `drcli.data.format.KINDS`.
            statistics: mean and standard deviation by channel where the literature fixes them; by
                default they are measured over the training split.
        """
        assert kind in KINDS
        self.arrays[modality] = allocate(self.folder / f"{modality}.npy", (self.rows, *shape), dtype)
        self.kinds[modality] = kind
        if statistics is not None:
            self.constants[modality] = statistics
        return self.arrays[modality]

    def tokens(self, modality: str, length: int, *, vocabulary: int, pad: int = 0) -> NDArray[Any]:
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

    def pool(self, modality: str, labels: Sequence[int]) -> NDArray[Any]:
        """A memory map (P, *shape) for rows of a modality beyond the split's pairs, to be filled.

        Only the training split may have one. The modality's array must have been opened.

        Args:
            modality: its name.
            labels: (P,) class index of each row; every class of the split must occur.
        """
        assert self.kinds[modality] not in WITH_LENGTHS
        array, classes = (self.folder / name for name in pool_files(modality))
        allocate(classes, (len(labels),), "int64")[:] = labels
        paired = self.arrays[modality]
        self.pools[modality] = allocate(array, (len(labels), *paired.shape[1:]), paired.dtype.name)
        return self.pools[modality]

    def sync(self) -> None:
        """Force everything written to the disk."""
        for array in [*self.arrays.values(), *self.pools.values()]:
            assert isinstance(array, np.memmap)
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
        info = DatasetInfo(
            name=self.name,
            classes=self.classes,
            modalities=modalities,
            rows={split: writer.rows for split, writer in self._splits.items()},
            samples={split: writer.samples for split, writer in self._splits.items()},
            settings=dict(settings),
            source=dict(source),
            sha256={path: file_sha256(self.root / path) for path in data_files(modalities, pools)},
            format_version=_version(train) if self.regression is None else VALUED_VERSION,
            pools=pools,
            regression=self.regression,
        )
        (self.root / INFO_FILE).write_text(info.to_json(), encoding="utf-8")
        sync(self.root / INFO_FILE)
        sync(self.root)
        return read_info(self.root)  # nothing is published that could not be opened


def allocate(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Make an array file of its full size, zeros, and return its memory map.

    Args:
        path: the .npy file.
        shape: of the array.
        dtype: numpy name of its type.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):  # a sparse map on a full disk would die of SIGBUS when filled
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def _version(train: SplitWriter) -> int:
    """The lowest version of the format that says all that is stored."""
    if train.ids:
        return TOKENS_VERSION
    return MASKED_VERSION if train.masks else FORMAT_VERSION


def _check_ids(modality: str, array: NDArray[Any], split: str, vocabulary: int) -> None:
    for start, piece in _raw_pieces(array):
        is_bad = ((piece < 0) | (piece >= vocabulary)).any(axis=1)
        if is_bad.any():
            row = piece[is_bad.argmax()]
            raise DataError(
                f"modality {modality} has token ids from {row.min()} to {row.max()} in split {split}, row "
                f"{start + int(is_bad.argmax())}; allowed are 0 to {vocabulary - 1}: check what made them"
            )


def _check_finite(what: str, array: NDArray[Any], split: str) -> None:
    if array.dtype.kind != "f":
        return
    for start, piece in _raw_pieces(array):
        is_bad = ~np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if is_bad.any():
            raise DataError(
                f"{what} is not finite in split {split}, row {start + int(is_bad.argmax())} first; check the source "
                f"files, or values beyond the range of {array.dtype.name}"
            )


def _describe(modality: str, array: NDArray[Any], writer: SplitWriter) -> ModalityInfo:
    """Shape, type, kind, mean and standard deviation of a modality."""
    kind, mask = writer.kinds[modality], writer.masks.get(modality)
    if _is_constant(array, kind, writer.steps.get(modality), mask):
        raise DataError(
            f"modality {modality} is constant over the training split and says nothing about the class; check the "
            "source files, or leave the modality out"
        )
    if modality in writer.constants:
        mean, std = writer.constants[modality]
    elif kind == "sequence":
        valid = np.arange(array.shape[1]) < writer.steps[modality][:, None]
        mean, std = _dimension_statistics(array[valid])
    elif kind == "vector":
        mean, std = _dimension_statistics(array if mask is None else array[mask])
    else:
        mean, std = _statistics(array, mask)
    for center, spread in zip(mean, std, strict=True):
        if not spread >= max(SMALLEST_STD, _ROUNDING * abs(center)):
            raise DataError(
                f"modality {modality} varies by {spread:g} around {center:g} over the training split, less than "
                "float32 can resolve; subtract the offset, or give it in other units"
            )
    ids = writer.ids.get(modality, (0, 0))
    return ModalityInfo(array.shape[1:], array.dtype.name, tuple(mean), tuple(std), kind, mask is not None, *ids)


def _is_constant(
    array: NDArray[Any], kind: str, lengths: NDArray[np.int64] | None, mask: NDArray[np.bool_] | None
) -> bool:
    """Whether all values are equal; of a sequence, all valid steps, of a vector, all rows that are there.

    Small values are values like others.
    """
    if lengths is None:
        row = array[0 if mask is None else mask.argmax()]
        first_value = row if kind == "vector" else row.flat[0]
        return all(bool((piece == first_value).all()) for _, piece in _raw_pieces(array, mask))
    first = array[lengths.argmax(), 0]
    valid = np.arange(array.shape[1]) < lengths[:, None]
    return all(bool((piece == first)[valid[start : start + len(piece)]].all()) for start, piece in _raw_pieces(array))


def _statistics(array: NDArray[Any], mask: NDArray[np.bool_] | None) -> Statistics:
    """Mean and standard deviation over everything that is there; two passes in float64, a piece at a time."""
    size = array.size if mask is None else array[0].size * int(mask.sum())
    mean = sum(float(piece.sum()) for piece in _pieces(array, mask)) / size
    variance = sum(float(np.square(piece - mean).sum()) for piece in _pieces(array, mask)) / size
    return (mean,), (float(np.sqrt(variance)),)


def _dimension_statistics(vectors: NDArray[Any]) -> Statistics:
    """Mean and standard deviation of each dimension of (n, D); a constant one is left unscaled."""
    values = vectors.astype(np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    return tuple(mean.tolist()), tuple(np.where(std > _ROUNDING * np.abs(mean), std, 1.0).tolist())


def _pieces(array: NDArray[Any], mask: NDArray[np.bool_] | None) -> Iterator[NDArray[np.float64]]:
    return (piece.astype(np.float64) for _, piece in _raw_pieces(array, mask))


def _raw_pieces(array: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """(number of the first row, rows), of at most `_CHUNK_BYTES` as float64; of a mask, the rows that are there."""
    step = max(1, _CHUNK_BYTES // (8 * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        rows = slice(start, start + step)
        yield start, array[rows] if mask is None else array[rows][mask[rows]]
