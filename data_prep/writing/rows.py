"""The memory maps that clips are written to, before they are a dataset's arrays.

There::

    <rows>/<split>/<modality>.npy   (N, ...) one row per clip, skipped ones included; a large one in several files

Each step can be repeated after a kill at any point, and leaves the same bytes.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_prep.writing.allocation import allocate_array, rows_of_a_file
from data_prep.writing.writer import SplitWriter
from drcli.data.format import Statistics
from drcli.data.parts import PartedArray, Stored, array_files, joined, part_file
from drcli.errors import DataError
from drcli.files import sync
from drcli.reading import one_line

_SEAL = "sealed"


@dataclass(frozen=True)
class ArraySpec:
    """What is stored of a modality; see `data_prep.writing.writer.SplitWriter.array`."""

    shape: tuple[int, ...]
    dtype: str
    kind: str = "array"
    statistics: Statistics | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def file_rows(self) -> int:
        """How many rows a file has at most."""
        return rows_of_a_file(self.shape, self.dtype)


@dataclass(frozen=True)
class Plan:
    """Which maps there are.

    Attributes:
        members: indices of the clips by split, in the order of their rows.
        specs: what is stored, by modality.
    """

    members: Mapping[str, Sequence[int]]
    specs: Mapping[str, ArraySpec]

    def maps(self) -> Iterator[tuple[str, str]]:
        """(split, modality) of every map."""
        return ((split, modality) for split in self.members for modality in self.specs)

    def paths(self, rows: Path, split: str, modality: str) -> list[Path]:
        """The files of a map as they are allocated, in the folder `rows`."""
        names = array_files(modality, len(self.members[split]), self.specs[modality].file_rows)
        return [rows / split / name for name in names]

    @property
    def parts(self) -> dict[str, int]:
        """How many rows a file has, by modality that has a map in several files."""
        longest = max(map(len, self.members.values()))
        return {m: spec.file_rows for m, spec in self.specs.items() if longest > spec.file_rows}


def allocate_rows(rows: Path, plan: Plan) -> None:
    """Make all maps anew."""
    shutil.rmtree(rows, ignore_errors=True)
    for split, members in plan.members.items():
        (rows / split).mkdir(parents=True)
        for modality, spec in plan.specs.items():
            allocate_array(rows / split, modality, (len(members), *spec.shape), spec.dtype)


def rows_are_there(rows: Path, plan: Plan) -> bool:
    """Whether every map is there; one that was compacted already may be shorter, and have fewer files."""
    paths = [plan.paths(rows, split, modality) for split, modality in plan.maps()]
    return all(path.is_file() for files in paths for path in (files[:1] if is_sealed(rows) else files))


def write_row(folder: Path, modality: str, row: int, value: NDArray[Any]) -> None:
    """Write one row of a map of a split, as a file: a new mapping for each row would cost more than the copy."""
    path = folder / f"{modality}.npy"
    if not path.is_file():  # there are several, of as many rows each as the first
        number, row = divmod(row, len(np.load(folder / part_file(modality, 0), mmap_mode="r")))
        path = folder / part_file(modality, number)
    array: Any = np.load(path, mmap_mode="r")
    assert value.shape == array.shape[1:], (path, value.shape, array.shape)
    with path.open("r+b") as stream:
        stream.seek(array.offset + row * array[:1].nbytes)
        stream.write(np.ascontiguousarray(value, dtype=array.dtype).data)


def open_map(rows: Path, plan: Plan, split: str, modality: str) -> Stored:
    """The files of a map that are there, to be read and written as one array.

    Raises:
        DataError: one is missing that others follow, or is damaged.
    """
    paths, spec = plan.paths(rows, split, modality), plan.specs[modality]
    there = [path for path in paths if path.is_file()]
    for path, expected in zip(there, paths, strict=False):
        # Opened for writing, one that is cut off would be filled with zeros.
        load_rows(path, spec.shape, np.dtype(spec.dtype), None if path == there[-1] else spec.file_rows)
        if path != expected:
            raise _lost(expected, "is missing")
    return joined([np.load(path, mmap_mode="r+") for path in there])


def load_rows(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], count: int | None, *, repeated: str = ""
) -> NDArray[Any]:
    """Map a file of rows for reading.

    Args:
        path: of it, <scratch>/<rows>/<split>/<name>.
        shape: of a row.
        dtype: of the values.
        count: of the rows; None: any number.
        repeated: what is added to the command that makes the rows anew, for messages.

    Raises:
        DataError: it is missing, cut off, or holds something else.
    """
    try:
        rows: Any = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise _lost(path, f"cannot be read ({one_line(error)})", repeated) from error
    is_whole = rows.ndim > 0 and (rows.shape[1:], rows.dtype) == (shape, dtype) and count in {None, len(rows)}
    if not is_whole:
        raise _lost(path, "is damaged", repeated)
    return np.asarray(rows)


def _lost(path: Path, what: str, repeated: str = "") -> DataError:
    """The error of a file <scratch>/<rows>/<split>/<name> that cannot be used."""
    return DataError(f"{path}: {what}; delete {path.parents[2]} and repeat the command{repeated}")


def sync_rows(rows: Path, plan: Plan) -> None:
    """Force what was written to the disk."""
    for split, modality in plan.maps():
        for path in plan.paths(rows, split, modality):
            sync(path)


def seal(rows: Path) -> None:
    """Note that rows begin to move: from now on a skipped clip stays skipped."""
    (rows / _SEAL).touch()
    sync(rows)


def is_sealed(rows: Path) -> bool:
    """Whether rows may have moved."""
    return (rows / _SEAL).exists()


def return_rows(rows: Path, out: Path, plan: Plan) -> None:
    """Undo `adopt` of a run that was killed after it, and empty `out`."""
    for split, modality in plan.maps():
        paths = plan.paths(rows, split, modality)
        adopted = [(out / split / path.name, path) for path in paths]
        adopted.append((out / split / f"{modality}.npy", paths[0]))  # the only file that was left of several
        for path, origin in adopted:
            if path.is_file() and (rows / split).is_dir():
                path.replace(origin)
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def compact(rows: Path, plan: Plan, split: str, is_kept: Sequence[bool]) -> list[int]:
    """Remove the rows of skipped clips from a split's maps: the last rows take their places.

    A row that moves is never overwritten, so that the step can be repeated.

    Args:
        rows: folder of the maps.
        plan: which maps there are.
        split: name of the split.
        is_kept: for each row, whether its clip was stored.

    Returns:
        The former row of each row that is left.

    Raises:
        DataError: files of a map are missing or damaged.
    """
    count = sum(is_kept)
    holes = [row for row in range(count) if not is_kept[row]]
    last = [row for row in range(count, len(is_kept)) if is_kept[row]]
    moves = dict(zip(holes, last, strict=True))
    for modality in plan.specs:
        _move(open_map(rows, plan, split, modality), moves, len(is_kept))
        _shorten(plan.paths(rows, split, modality), count)
    return [moves.get(row, row) for row in range(count)]


def adopt(rows: Path, plan: Plan, part: SplitWriter) -> None:
    """Make a split's maps the arrays of a dataset, without copying them."""
    for modality, spec in plan.specs.items():
        names = array_files(modality, part.rows, spec.file_rows)
        paths = plan.paths(rows, part.folder.name, modality)[: len(names)]
        for path, name in zip(paths, names, strict=True):
            path.replace(part.folder / name)
        part.arrays[modality] = joined([np.load(part.folder / name, mmap_mode="r+") for name in names])
        part.kinds[modality] = spec.kind
        if spec.statistics is not None:
            part.constants[modality] = spec.statistics


def _move(array: Stored, moves: Mapping[int, int], before: int) -> None:
    """Move rows of a map that has as many as before; in a shorter one, an earlier run has moved them."""
    if len(array) == before:
        for hole, row in moves.items():
            array[hole] = array[row]
        assert isinstance(array, np.memmap | PartedArray)
        array.flush()


def _shorten(paths: Sequence[Path], count: int) -> None:
    """Cut a map to `count` rows: files that have none of them go, the last ones first."""
    for path in paths:
        if path.is_file():
            sync(path)
    file_rows = len(np.load(paths[0], mmap_mode="r"))
    kept = -(-count // file_rows)
    for path in reversed(paths[kept:]):
        path.unlink(missing_ok=True)
    if not paths[kept - 1].is_file():
        raise _lost(paths[kept - 1], "is missing")
    _cut(paths[kept - 1], count - (kept - 1) * file_rows)


def _cut(path: Path, count: int) -> None:
    """Cut one file to `count` rows: header first, length last."""
    array: Any = np.load(path, mmap_mode="r+")
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False}
    with path.open("r+b") as stream:
        np.lib.format.write_array_header_1_0(stream, {**header, "shape": (count, *array.shape[1:])})
        assert stream.tell() == array.offset  # numpy pads headers so that the first axis may change
    os.truncate(path, array.offset + count * array[:1].nbytes)
