"""How many runs at once pay on this machine, and how its cores are shared out between them."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

MEMORY = 2 * 2**30
"""Bytes that the default leaves for each process: more than the shipped recipes for small data take on a CPU."""


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
