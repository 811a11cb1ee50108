"""Hands clips to worker processes, and lets each write its rows.

Rows go straight from a worker to the map on disk; only what became of a clip comes back.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from data_prep.media.container import ClipError
from data_prep.writing.journal import Entry
from data_prep.writing.rows import write_row
from drcli.errors import RunError


@dataclass(frozen=True)
class Clip:
    """One sample; a dataset adds its paths in a subclass.

    Attributes:
        id: unique name, a line of ids.txt.
        label: class index.
        split: train, val or test.
    """

    id: str
    label: int
    split: str


@dataclass(frozen=True)
class Outcome:
    """What the work on one clip gives.

    Attributes:
        arrays: one row by modality.
        bad_packets: that did not decode.
    """

    arrays: Mapping[str, NDArray[Any]]
    bad_packets: int = 0


Work = Callable[[Any], Outcome]
"""From a clip to its rows; raises `ClipError` for a clip that must be skipped. Must be picklable."""


@dataclass(frozen=True)
class Task:
    """A clip, the folder of its split's maps, and its row in them."""

    clip: Clip
    folder: Path
    row: int


def in_this_process(tasks: Sequence[Task], work: Work) -> Generator[Entry, None, None]:
    """Entries in the order of the tasks."""
    for task in tasks:
        yield do(task, work)


def in_processes(tasks: Sequence[Task], work: Work, workers: int) -> Generator[Entry, None, None]:
    """Entries in the order in which worker processes finish them."""
    waiting: dict[Future[Entry], Task] = {}
    queue = iter(tasks)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(workers, len(tasks))), mp_context=context, initializer=_start_worker)
    try:
        while True:
            while len(waiting) < 2 * workers and (task := next(queue, None)) is not None:
                waiting[pool.submit(do, task, work)] = task
            if not waiting:
                return
            finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
                del waiting[future]
    except BrokenProcessPool as error:
        names = ", ".join(task.clip.id for task in waiting.values())
        raise RunError(
            f"a worker process died (memory, or a decoder that crashed) while it worked on one of: {names}; repeat "
            "the command to go on, with --workers 1 to find the clip, and remove it if it is at fault"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, compute in one thread, and end when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def do(task: Task, work: Work) -> Entry:
    """Work on one clip and write its rows."""
    try:
        outcome = work(task.clip)
    except ClipError as error:
        return Entry(task.clip.id, reason=error.reason, detail=error.detail)
    for modality, value in outcome.arrays.items():
        write_row(task.folder / f"{modality}.npy", task.row, value)
    return Entry(task.clip.id, bad_packets=outcome.bad_packets)
