"""How long a large prepared dataset is checked at its first start and at later ones, next to reading all of it.

    python benchmarks/start_check.py [--gb 8] [--clips 199467] [--files 160] [--repeats 3] [--folder DIR] [--json FILE]

Writes a dataset of pseudo-random bytes into a folder that is removed at the end, its arrays in about so many files.
Each turn reads every file and compares its digest, opens the dataset without the receipt `verified.json`, and opens it
with one. Before each measurement the pages of all files are dropped from the system's memory, so that the disk is read;
in the last row they are in memory.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from benchmarks.generated import check_room  # noqa: E402
from benchmarks.measuring import parser_of, polite, table_of, write_report  # noqa: E402
from data_prep.writing import allocation  # noqa: E402
from data_prep.writing.writer import DatasetWriter  # noqa: E402
from drcli.data import verified  # noqa: E402
from drcli.data.format import DatasetInfo  # noqa: E402
from drcli.data.prepared import open_dataset  # noqa: E402

CPU = torch.device("cpu")
CLASSES = 309
"""As many as VGGSound has."""
HELD_OUT = {"val": 0.1, "test": 0.08}
"""Shares of the clips."""


def write(root: Path, nbytes: int, clips: int, files: int) -> DatasetInfo:
    """Write a dataset of so many bytes and clips, its arrays in about so many files."""
    size = max(16, nbytes // clips)
    allocation.LARGEST_FILE = max(size, math.ceil(clips * size / files))
    rows = {split: max(CLASSES, round(share * clips)) for split, share in HELD_OUT.items()}
    rows = {"train": clips - sum(rows.values()), **rows}
    writer = DatasetWriter(root, name="made_up", classes=tuple(f"class {number}" for number in range(CLASSES)))
    block = np.random.default_rng(0).integers(0, 256, max(1, 2**26 // size) * size, np.uint8)
    for split, count in rows.items():
        part = writer.split(
            split, labels=(np.arange(count) % CLASSES).tolist(), ids=[f"{split}_{row:011d}" for row in range(count)]
        )
        array = part.array("clip", (1, 1, size), "uint8", statistics=((128.0,), (74.0,)))
        pieces = block.reshape(-1, 1, 1, size)
        for number, start in enumerate(range(0, count, len(pieces))):
            array[start : start + len(pieces)] = np.roll(pieces, number)[: count - start]
    return writer.finish(settings={}, source={"fingerprint": "made up", "limit": None})


class Timed(NamedTuple):
    """What a piece of work took: seconds of the clock, and of the processor, which other work does not lengthen."""

    seconds: float
    processor: float


def timed(work: Callable[[], object]) -> Timed:
    """Do a piece of work."""
    before, clock = time.process_time(), time.perf_counter()
    work()
    return Timed(time.perf_counter() - clock, time.process_time() - before)


def drop(root: Path) -> None:
    """Take the pages of a folder's files out of the system's memory."""
    for path in root.rglob("*.*"):
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--gb", type=float, default=8.0, help="size of the dataset")
    parser.add_argument("--clips", type=int, default=199_467, help="rows; VGGSound's by default")
    parser.add_argument("--files", type=int, default=160, help="files of the arrays; 4 GB each are 160 of VGGSound")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the dataset is written")
    asked = parser.parse_args(arguments)
    check_room(asked.folder, int(asked.gb * 1e9), "choose another --folder or a smaller --gb")
    root = Path(tempfile.mkdtemp(prefix="start-check-", dir=asked.folder))
    try:
        _measure(root, asked.gb, asked.clips, asked.files, asked.repeats, asked.json)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _measure(root: Path, size: float, clips: int, files: int, repeats: int, report: Path | None) -> None:
    info = write(root, int(size * 1e9), clips, files)
    verified.LARGE = min(verified.LARGE, int(size * 1e9) // 2)  # of a smaller one, too, there is a receipt
    os.sync()
    works = {
        "read everything": lambda: verified.verify_files(root, info, ""),
        "first start": lambda: open_dataset(root),
        "later start": lambda: open_dataset(root),
        "later start, in memory": lambda: open_dataset(root),
    }
    taken: dict[str, list[Timed]] = {name: [] for name in works}
    for _ in range(repeats):
        (root / verified.RECEIPT).unlink(missing_ok=True)
        for name, work in works.items():
            if "memory" not in name:
                drop(root)
            taken[name].append(timed(work))
    whole = median(one.seconds for one in taken["read everything"])
    rows = [
        (name, *_shown(times), f"{median(one.seconds for one in times) / whole:.3f}") for name, times in taken.items()
    ]
    title = f"{size:g} GB, {sum(info.rows.values())} clips, {len(info.sha256)} files"
    table_of(title, ("", "s", "s of the processor", "ratio"), rows)
    found = {name: [one._asdict() for one in times] for name, times in taken.items()}
    write_report(report, CPU, {"rows": dict(info.rows), "files": len(info.sha256), "gb": size, "taken": found})


def _shown(times: Sequence[Timed]) -> tuple[str, str]:
    return f"{median(one.seconds for one in times):.2f}", f"{median(one.processor for one in times):.2f}"


if __name__ == "__main__":
    with polite():
        main()
