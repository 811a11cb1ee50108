"""Writes a prepared dataset: arrays as preallocated memory maps, then `dataset.json` last."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drcli.data.format import (
    IDS_FILE,
    INFO_FILE,
    LABELS_FILE,
    DatasetInfo,
    ModalityInfo,
    data_files,
    file_sha256,
)
from drcli.errors import DataError

_CHUNK_BYTES = 64 * 2**20  # of float64, while statistics are taken


class SplitWriter:
    """One split: labels and ids are written at once, arrays are opened and filled row by row.

    Args:
        folder: where the split's files go; made here.
        labels: (N,) class index of each row.
        ids: N names; rows that share one are several draws of one sample.
    """

    def __init__(self, folder: Path, labels: Sequence[int], ids: Sequence[str]) -> None:
        assert len(labels) == len(ids)
        assert not any("\n" in name for name in ids)
        folder.mkdir()
        self.folder = folder
        self.rows = len(ids)
        self.samples = len(set(ids))
        self.arrays: dict[str, NDArray[Any]] = {}
        _allocate(folder / LABELS_FILE, (self.rows,), "int64")[:] = labels
        (folder / IDS_FILE).write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")

    def array(self, modality: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A memory map (N, *shape) to be filled, preallocated so that a full disk shows here.

        Args:
            modality: its name, which names the file too.
            shape: shape of one row.
            dtype: numpy name of the stored type.
        """
        self.arrays[modality] = _allocate(self.folder / f"{modality}.npy", (self.rows, *shape), dtype)
        return self.arrays[modality]

    def sync(self) -> None:
        """Force everything written to the disk."""
        for array in self.arrays.values():
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
        classes: class names in index order.
    """

    def __init__(self, root: Path, *, name: str, classes: tuple[str, ...]) -> None:
        self.root = root
        self.name = name
        self.classes = classes
        self._splits: dict[str, SplitWriter] = {}

    def split(self, name: str, *, labels: Sequence[int], ids: Sequence[str]) -> SplitWriter:
        """Begin a split of len(labels) rows."""
        self._splits[name] = SplitWriter(self.root / name, labels, ids)
        return self._splits[name]

    def finish(self, *, settings: Mapping[str, Any], source: Mapping[str, Any]) -> DatasetInfo:
        """Write `dataset.json`, after every other file has reached the disk.

        Args:
            settings: the `dataset.prepare` block.
            source: what the arrays were made from; "fingerprint" and "limit" at least.

        Raises:
            DataError: a modality is constant or not finite over the training split.
        """
        for writer in self._splits.values():
            writer.sync()
        modalities = {m: _describe(m, array) for m, array in self._splits["train"].arrays.items()}
        info = DatasetInfo(
            name=self.name,
            classes=self.classes,
            modalities=modalities,
            rows={split: writer.rows for split, writer in self._splits.items()},
            samples={split: writer.samples for split, writer in self._splits.items()},
            settings=dict(settings),
            source=dict(source),
            sha256={path: file_sha256(self.root / path) for path in data_files(modalities)},
        )
        (self.root / INFO_FILE).write_text(info.to_json(), encoding="utf-8")
        sync(self.root / INFO_FILE)
        sync(self.root)
        return info


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _allocate(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):  # a sparse map on a full disk would die of SIGBUS when filled
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def _describe(modality: str, array: NDArray[Any]) -> ModalityInfo:
    """Shape, type, mean and standard deviation; two passes in float64, a piece at a time."""
    mean = sum(float(piece.sum()) for piece in _pieces(array)) / array.size
    variance = sum(float(np.square(piece - mean).sum()) for piece in _pieces(array)) / array.size
    if not np.isfinite(variance) or variance == 0:
        what = "constant" if variance == 0 else "not finite"
        raise DataError(f"modality {modality} is {what} over the training split; check the source files")
    return ModalityInfo(array.shape[1:], array.dtype.name, mean, float(np.sqrt(variance)))


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    step = max(1, _CHUNK_BYTES // (8 * int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), step):
        yield array[start : start + step].astype(np.float64)
