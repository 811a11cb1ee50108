"""Processes that drcli starts on this machine.

None outlives the one that started it, which alone hears Ctrl-C.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from types import ModuleType


@contextmanager
def unheard_interrupts() -> Iterator[Callable[[], None]]:
    """Ignore Ctrl-C until the yielded function is called: processes started meanwhile ignore it for good.

    A terminal sends it to all processes, but the one that watches ends the others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def heard() -> None:
        signal.signal(signal.SIGINT, previous)

    try:
        yield heard
    finally:
        heard()


@contextmanager
def main_module(*, imported: bool) -> Iterator[None]:
    """Say whether processes that are started within the block import the main module of this one, as Python has it.

    Where drcli is called by a script, the script would be run once more by each process, and train again.
    """
    main = sys.modules["__main__"]
    if not imported:
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, even if that was killed."""
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def cause_of(code: int | None) -> str:
    """Return how a process has ended, by its exit code; negative: the signal that ended it."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    return f"was ended by {signal.Signals(-code).name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")


def end(processes: Sequence[SpawnProcess], within: float) -> None:
    """End the processes that still run: by SIGTERM, so that they can leave all in order, and then at once.

    Args:
        processes: what to end.
        within: seconds that they have, all together, from SIGTERM on.
    """
    for process in processes:
        if process.is_alive():
            process.terminate()
    deadline = time.monotonic() + within
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
