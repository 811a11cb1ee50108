"""Where a split's arrays are while a run reads them: on the device whole, or streamed from memory maps on the disk.

All arrays of rows are opened by `open_rows`, which alone knows whether one lies in a single file or in several.

A memory map of a file that is cut short has pages without content, and the system ends a process that reads
one (SIGBUS); no handler in Python can prevent that. `MappedFile.check`, called before rows are read, turns
all but a cut within those microseconds into an error.
"""

from __future__ import annotations

import errno
import math
import os
import tokenize
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drcli.data.format import INFO_FILE
from drcli.data.parts import PartedArray, array_files, joined, rows_of_files
from drcli.errors import DataError

_HEADER_ERRORS = (ValueError, TypeError, LookupError, EOFError, SyntaxError, OverflowError, RecursionError, MemoryError)
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Residence = Literal["auto", "resident", "stream"]
Job = TypeVar("Job")
Result = TypeVar("Result")

AHEAD = 2
"""Batches that are read while the device works on the one before."""


@dataclass(frozen=True)
class MappedFile:
    """A file that a memory map reads from.

    Attributes:
        path: the file.
        nbytes: what it had when it was mapped.
    """

    path: Path
    nbytes: int

    def check(self) -> None:
        """Check that the file has not become shorter; one that was deleted stays readable through its map.

        Raises:
            DataError: it has.
        """
        try:
            nbytes = os.stat(self.path).st_size  # noqa: PTH116 - called for every batch
        except OSError:
            return
        if nbytes < self.nbytes:
            raise DataError(
                f"{self.path}: was cut from {self.nbytes} to {nbytes} bytes while it was in use; prepare the dataset "
                "again with --fresh, then repeat the command"
            )


@dataclass(frozen=True)
class StoredRows:
    """An array of rows on the disk.

    Attributes:
        array: (N, ...) memory map of its one file, or of its several ones.
        files: what is read from.
    """

    array: Tensor | PartedArray
    files: tuple[MappedFile, ...]


def open_rows(folder: Path, name: str, shape: tuple[int, ...], dtype: str, file_rows: int = 0) -> StoredRows:
    """Map an array that lies in one file or in several; see `drcli.data.parts.array_files`.

    Args:
        folder: of the files.
        name: of the array, without the ending.
        shape: (N, ...) that dataset.json says.
        dtype: numpy name of the type that dataset.json says.
        file_rows: rows of a file that dataset.json says; 0: there is one file.

    Raises:
        DataError: a file is not as dataset.json says.
    """
    parts = open_parts(folder, name, shape, dtype, file_rows)
    found = joined(list(parts.values()))
    array = found if isinstance(found, PartedArray) else torch.from_numpy(found)
    return StoredRows(array, tuple(MappedFile(path, path.stat().st_size) for path in parts))


def open_parts(
    folder: Path, name: str, shape: tuple[int, ...], dtype: str, file_rows: int = 0
) -> dict[Path, NDArray[Any]]:
    """Map the files of an array, each for itself; see `open_rows`."""
    names, sizes = array_files(name, shape[0], file_rows), rows_of_files(shape[0], file_rows)
    return {
        folder / file: open_array(folder / file, (rows, *shape[1:]), dtype)
        for file, rows in zip(names, sizes, strict=True)
    }


def open_array(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Map an array copy-on-write: torch wants writable memory, the file stays as it is.

    Args:
        path: the .npy file.
        shape: that dataset.json says.
        dtype: numpy name of the type that dataset.json says.

    Raises:
        DataError: it is not such a file, is of another shape or type, or is not as long as its header says.
    """
    try:
        if path.exists() and not path.is_file():
            raise ValueError("not a regular file")
        with path.open("rb") as stream:
            found, is_fortran, stored = _read_header(stream)
            offset = stream.tell()
        size = path.stat().st_size
    except (OSError, *_HEADER_ERRORS, tokenize.TokenError) as error:
        raise DataError(f"{path}: not a readable array ({error}); prepare again with --fresh") from error
    if found != shape or stored.name != dtype or is_fortran or not stored.isnative:
        order = ", column by column" if is_fortran else ""
        swapped = "" if stored.isnative else ", bytes swapped"
        raise DataError(
            f"{path}: holds {stored.name} {found}{order}{swapped}, {INFO_FILE} says {dtype} {shape}; "
            "prepare the dataset again with --fresh"
        )
    expected = offset + math.prod(shape) * stored.itemsize
    if size != expected:
        raise DataError(f"{path}: has {size} bytes, its header says {expected}; prepare the dataset again with --fresh")
    try:
        return np.memmap(path, dtype=stored, mode="c", offset=offset, shape=shape)
    except OSError as error:
        more = "; allow more with `ulimit -n`, one for each file of the dataset" if error.errno == errno.EMFILE else ""
        raise DataError(f"{path}: cannot be mapped into memory ({error.strerror}){more}") from error


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran order, and type of an array; the stream is left where its values begin."""
    version = np.lib.format.read_magic(stream)
    if version not in _READERS:
        raise ValueError(f"version {version} of the format")
    shape, is_fortran, dtype = _READERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, is_fortran and len(shape) > 1, dtype


class Rows:
    """The arrays of one split.

    Resident arrays are copied to the device once. Streamed ones stay memory maps, whose rows are read
    into page-locked memory and copied while the device works.

    Args:
        arrays: memory maps by name, one row per sample.
        device: where batches go.
        residence: "auto" is resident on an accelerator where the arrays take at most half of its free
            memory. On the CPU memory maps are read directly; "resident" reads them into memory first.
        files: what memory maps read from, by name; they are checked before each reading.
    """

    def __init__(
        self,
        arrays: Mapping[str, Tensor | PartedArray],
        device: torch.device,
        residence: Residence = "auto",
        files: Mapping[str, Sequence[MappedFile]] | None = None,
    ) -> None:
        self.device = device
        self._files = dict(files or {})
        self.nbytes = sum(array.nbytes for array in arrays.values())
        self.resident = residence == "resident" or (residence == "auto" and _fits(self.nbytes, device))
        self.prefetches = not self.resident and (residence == "stream" or device.type == "cuda")
        self._arrays = {m: self._copied(m, array) if self.resident else array for m, array in arrays.items()}

    def describe(self) -> str:
        """Say in a few words where the arrays are."""
        size = f"{self.nbytes / 1e9:.1f} GB" if self.nbytes >= 1e9 else f"{self.nbytes / 1e6:.1f} MB"
        if self.resident:
            return f"{size} resident on {self.device.type}"
        return f"{size} streamed from memory maps" if self.prefetches else f"{size} in memory maps"

    def read(self, name: str, index: Tensor, frames: Tensor | None = None) -> Tensor:
        """Return rows of an array, on the device if they are resident, else in (page-locked) memory.

        Args:
            name: the array.
            index: (B,) row numbers.
            frames: (B, T) numbers along the array's second dimension, or None for all of it.

        Raises:
            DataError: the array's file was cut short.
        """
        if not self.resident:
            self._check(name)
        array = self._arrays[name]
        if isinstance(array, PartedArray):
            found = torch.from_numpy(array.take(index.numpy(), None if frames is None else frames.numpy()))
        else:
            found = _selected(array, index, frames)
        return found.pin_memory() if self.device.type == "cuda" and not self.resident else found

    def _copied(self, name: str, array: Tensor | PartedArray) -> Tensor:
        self._check(name)
        if isinstance(array, PartedArray):
            return gathered(array, self.device)
        return array.clone() if self.device.type == "cpu" else array.to(self.device)

    def _check(self, name: str) -> None:
        for file in self._files.get(name, ()):
            file.check()


def _selected(array: Tensor, index: Tensor, frames: Tensor | None) -> Tensor:
    index = to_device(index, array.device)
    return array.index_select(0, index) if frames is None else array[index[:, None], to_device(frames, array.device)]


def gathered(array: PartedArray, device: torch.device) -> Tensor:
    """All parts in one tensor on the device, copied one after another."""
    parts = [torch.from_numpy(part) for part in array.parts]
    whole = torch.empty(array.shape, dtype=parts[0].dtype, device=device)
    for target, part in zip(whole.split(array.file_rows), parts, strict=True):
        target.copy_(part)
    return whole


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a copy to an accelerator does not wait for it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        # Page-locked memory cannot be filled through a view whose rows share their elements.
        tensor = tensor if tensor.is_pinned() else tensor.contiguous().pin_memory()
        return tensor.to(device, non_blocking=True)
    return tensor.to(device)


def ahead(jobs: Iterable[Job], work: Callable[[Job], Result]) -> Iterator[Result]:
    """Yield `work(job)` in order, computed in another thread a few jobs ahead.

    Jobs are taken from their iterator in this thread, so that what making them draws is drawn in order.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        pending: deque[Future[Result]] = deque()
        for job in jobs:
            pending.append(pool.submit(work, job))
            if len(pending) > AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _fits(nbytes: int, device: torch.device) -> bool:
    return device.type == "cuda" and nbytes <= free_memory(device) // 2


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that are free, or that torch holds and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def free_at_peak(device: torch.device) -> int:
    """Bytes of a GPU that were free even when most was used."""
    more = torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
    return max(0, free_memory(device) - more)
