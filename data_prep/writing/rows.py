"""The memory maps that clips are written to, before they are a dataset's arrays.

There::

    <rows>/<split>/<modality>.npy   (N, ...) one row per clip, skipped ones included

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

from data_prep.writing.writer import SplitWriter, allocate
from drcli.data.format import Statistics
from drcli.files import sync

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


@dataclass(frozen=True)
class Plan:
    """Which maps there are.

    Attributes:
        members: indices of the clips by split, in the order of their rows.
        specs: what is stored, by modality.
    """

    members: Mapping[str, Sequence[int]]
    specs: Mapping[str, ArraySpec]

    def files(self) -> Iterator[tuple[str, str]]:
        """(split, modality) of every map."""
        return ((split, modality) for split in self.members for modality in self.specs)


def allocate_rows(rows: Path, plan: Plan) -> None:
    """Make all maps anew."""
    shutil.rmtree(rows, ignore_errors=True)
    for split, members in plan.members.items():
        (rows / split).mkdir(parents=True)
        for modality, spec in plan.specs.items():
            allocate(map_path(rows, split, modality), (len(members), *spec.shape), spec.dtype)


def rows_are_there(rows: Path, plan: Plan) -> bool:
    """Whether every map is there; one that was compacted already may be shorter."""
    return all(map_path(rows, split, modality).is_file() for split, modality in plan.files())


def write_row(path: Path, row: int, value: NDArray[Any]) -> None:
    """Write one row of a map, as a file: a new mapping for each row would cost more than the copy."""
    array: Any = np.load(path, mmap_mode="r")
    assert value.shape == array.shape[1:], (path, value.shape, array.shape)
    with path.open("r+b") as stream:
        stream.seek(array.offset + row * array[:1].nbytes)
        stream.write(np.ascontiguousarray(value, dtype=array.dtype).data)


def sync_rows(rows: Path, plan: Plan) -> None:
    """Force what was written to the disk."""
    for split, modality in plan.files():
        sync(map_path(rows, split, modality))


def seal(rows: Path) -> None:
    """Note that rows begin to move: from now on a skipped clip stays skipped."""
    (rows / _SEAL).touch()
    sync(rows)


def is_sealed(rows: Path) -> bool:
    """Whether rows may have moved."""
    return (rows / _SEAL).exists()


def return_rows(rows: Path, out: Path, plan: Plan) -> None:
    """Undo `adopt` of a run that was killed after it, and empty `out`."""
    for split, modality in plan.files():
        adopted = out / split / f"{modality}.npy"
        if adopted.is_file() and (rows / split).is_dir():
            adopted.replace(map_path(rows, split, modality))
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
    """
    count = sum(is_kept)
    holes = [row for row in range(count) if not is_kept[row]]
    last = [row for row in range(count, len(is_kept)) if is_kept[row]]
    moves = dict(zip(holes, last, strict=True))
    for modality in plan.specs:
        _shorten(map_path(rows, split, modality), moves, count)
    return [moves.get(row, row) for row in range(count)]


def adopt(rows: Path, plan: Plan, part: SplitWriter) -> None:
    """Make a split's maps the arrays of a dataset, without copying them."""
    for modality, spec in plan.specs.items():
        path = part.folder / f"{modality}.npy"
        map_path(rows, part.folder.name, modality).replace(path)
        part.arrays[modality] = np.load(path, mmap_mode="r+")
        part.kinds[modality] = spec.kind
        if spec.statistics is not None:
            part.constants[modality] = spec.statistics


def map_path(rows: Path, split: str, modality: str) -> Path:
    """The memory map of a modality of a split."""
    return rows / split / f"{modality}.npy"


def _shorten(path: Path, moves: Mapping[int, int], count: int) -> None:
    """Move rows, then cut the map to `count` rows: data first, header next, length last."""
    array: Any = np.load(path, mmap_mode="r+")
    if len(array) != count:
        for hole, row in moves.items():
            array[hole] = array[row]
        array.flush()
        sync(path)
    header = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False}
    with path.open("r+b") as stream:
        np.lib.format.write_array_header_1_0(stream, {**header, "shape": (count, *array.shape[1:])})
        assert stream.tell() == array.offset  # numpy pads headers so that the first axis may change
    os.truncate(path, array.offset + count * array[:1].nbytes)
