"""Hands clips to worker processes, and lets each write its rows.

Rows go straight from a worker to the map on disk; only the outcome of a clip comes back. Whatever goes
wrong with a clip costs this clip only, even if it ends the worker.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from data_prep.media.container import ClipError
from data_prep.writing.journal import Entry
from data_prep.writing.rows import write_row
from drcli.errors import DrcliError


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
        findings: what is odd about a clip that is stored nevertheless, such as a silent sound, and how often.
    """

    arrays: Mapping[str, NDArray[Any]]
    bad_packets: int = 0
    findings: Mapping[str, int] = field(default_factory=dict)


Work = Callable[[Any], Outcome]
"""From a clip to its rows; raises `ClipError` for a clip that must be skipped. Must be picklable."""

_CONTEXT = multiprocessing.get_context("spawn")


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
    """Entries in the order in which worker processes finish them.

    When a worker dies, all of them are replaced, and each clip that was in work gets a process of its own.
    """
    queue = deque(tasks)
    count = max(1, min(workers, len(tasks)))
    while True:
        waiting: dict[Future[Entry], Task] = {}
        pool = ProcessPoolExecutor(count, mp_context=_CONTEXT, initializer=_start_worker)
        try:
            yield from _finished(pool, waiting, queue, work, 2 * workers)
            return
        except BrokenProcessPool:
            suspects = list(waiting.values())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for task in suspects:
            yield _alone(task, work)


def _finished(
    pool: ProcessPoolExecutor, waiting: dict[Future[Entry], Task], queue: deque[Task], work: Work, ahead: int
) -> Iterator[Entry]:
    """Entries of all tasks of a queue; `waiting` holds at most `ahead` tasks, and those in work if a worker dies."""
    while True:
        while queue and len(waiting) < ahead:
            future = pool.submit(do, queue[0], work)
            waiting[future] = queue.popleft()
        if not waiting:
            return
        finished, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in finished:
            entry = future.result()
            del waiting[future]
            yield entry


def _alone(task: Task, work: Work) -> Entry:
    """Work on one clip in a process of its own, so that the process may die."""
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_send_entry, args=(sender, task, work), daemon=True)
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        result = None
    finally:
        receiver.close()
        process.join()
    if result is None:
        return Entry(task.clip.id, reason="worker died", detail=_how_it_died(process.exitcode or 0))
    if isinstance(result, DrcliError | OSError):
        raise result
    assert isinstance(result, Entry)
    return result


def _send_entry(sender: multiprocessing.connection.Connection, task: Task, work: Work) -> None:
    """Send the entry of a task, or the error for which everything must stop."""
    _start_worker()
    try:
        sender.send(do(task, work))
    except (DrcliError, OSError) as error:
        sender.send(error)


def _how_it_died(code: int) -> str:
    if code < 0:
        name = signal.strsignal(-code)
        return f"its process was ended by signal {-code} ({name}): out of memory, or a decoder that crashed"
    return f"its process ended with exit status {code}"


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
    """Work on one clip and write its rows.

    Raises:
        DrcliError: of the installation or the settings: no other clip would fare better.
        OSError: the rows cannot be written.
    """
    try:
        outcome = work(task.clip)
    except ClipError as error:
        return Entry(task.clip.id, reason=error.reason, detail=error.detail)
    except DrcliError:
        raise
    except Exception as error:  # noqa: BLE001 - one clip must not end the work on all others
        return Entry(task.clip.id, reason="unexpected error", detail=_place(error))
    for modality, value in outcome.arrays.items():
        write_row(task.folder, modality, task.row, value)
    return Entry(task.clip.id, bad_packets=outcome.bad_packets, findings=outcome.findings)


def _place(error: Exception) -> str:
    """Type, message and place of an error, in one line."""
    message = " ".join(str(error).split())[:200]
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {message}, in {Path(where.filename).name}, line {where.lineno}"
