"""Processes that drcli starts on this machine: how many pay, and how they share its cores.

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
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import ModuleType

import torch

MEMORY = 2 * 2**30
"""Bytes that the default leaves for each process: more than the shipped recipes for small data take on a CPU."""


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


@dataclass(frozen=True)
class Sharing:
    """How runs share this machine.

    Attributes:
        jobs: how many are trained at once.
        threads: of torch, each.
    """

    jobs: int
    threads: int

    def __str__(self) -> str:
        each = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.jobs} runs at once, with {each} each"


def share_out(asked: int | None, device: torch.device, runs: int) -> Sharing:
    """Return how runs share this machine: every core has one thread, as far as cores and jobs divide.

    Args:
        asked: how many at once; None: as many as pay. On a CPU that is one a core, since small models gain little
            from a second thread, as far as memory suffices; on GPUs it is one each.
        device: where they train.
        runs: how many there are.
    """
    there = cores()
    if asked is not None:
        return Sharing(asked, max(1, there // asked))
    most = torch.cuda.device_count() if device.type == "cuda" else min(there, memory() // MEMORY)
    jobs = max(1, min(most, runs))
    return Sharing(jobs, max(1, there // jobs))


def cores() -> int:
    """Return how many cores this command may use: torch's threads, which OMP_NUM_THREADS sets, if cores allow it."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), allowed, _quota()))


def _quota() -> int:
    """Cores that a container grants, where it says so."""
    with suppress(OSError, ValueError):
        granted, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, round(int(granted) / int(period)))
    return 2**31


def memory() -> int:
    """Return the bytes of memory that are free, or could be, where the system says so."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 1024 * found.get("MemAvailable", 2**31)
    return 2**41
