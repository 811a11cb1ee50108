"""The cores and the memory that this machine has free for a command, and how its runs share them.

The one place that decides how many threads compute: as many as cores are free, unless the user says how many.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from drcli.amounts import counted
from drcli.errors import DataError
from drcli.runs.directory import RunDirectory
from drcli.runs.records import Environment

MEMORY = 2 * 2**30
"""Bytes that the default leaves for each process: more than the shipped recipes for small data take on a CPU."""

WATCHED = 0.3
"""Seconds for which the load of the cores is watched before threads are chosen: 30 ticks of the kernel's clock."""

BY_USER = "OMP_NUM_THREADS"
"""The environment variable by which a user says how many threads torch has."""

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
LOAD = Path("/proc/stat")
_IDLE = (3, 4)  # columns of a core's line: idle, and idle while something is read


@dataclass(frozen=True)
class Sharing:
    """How runs share this machine.

    Attributes:
        jobs: how many are trained at once.
        threads: of torch, each.
        is_asked: whether the user has said how many threads, so that a run that goes on has these, too.
        why: what the numbers come from, in words; empty where nothing is to be said.
    """

    jobs: int
    threads: int
    is_asked: bool = field(default=False, compare=False)
    why: str = field(default="", compare=False)

    def __str__(self) -> str:
        each = counted(self.threads, "thread")
        text = each if self.jobs == 1 else f"{self.jobs} runs at once, with {each} each"
        return f"{text} ({self.why})" if self.why else text

    @property
    def asked(self) -> int | None:
        """The number of threads that the user has asked for, if any."""
        return self.threads if self.is_asked else None


def share_out(asked: int | None, device: torch.device, runs: int, threads: int | None = None) -> Sharing:
    """Return how runs share this machine: every core that is free has one thread, as far as cores and jobs divide.

    Args:
        asked: how many at once; None: as many as pay. On a CPU that is one a core, since small models gain little
            from a second thread, as far as memory suffices; on GPUs it is one each.
        device: where they train.
        runs: how many there are.
        threads: of each, as the user says; None: as many as there are cores for.
    """
    there, why = _there(device)
    is_gpu = device.type == "cuda"
    most = torch.cuda.device_count() if is_gpu else min(there // (threads or 1), memory() // MEMORY)
    jobs = asked or max(1, min(most, runs))
    is_asked = threads is not None or BY_USER in os.environ
    return Sharing(jobs, threads or max(1, there // jobs), is_asked, "" if is_gpu or threads else why)


def _there(device: torch.device) -> tuple[int, str]:
    """How many cores runs have, and where that comes from: what is busy now is left alone if they compute on cores."""
    most = cores()
    if device.type == "cuda" or BY_USER in os.environ:
        return most, f"{BY_USER}={os.environ.get(BY_USER)}"
    found = min(most, free()) if most > 1 else 1
    return found, f"{found} of {counted(most, 'core')} free"


def cores() -> int:
    """Return how many cores this command may use: torch's threads, which OMP_NUM_THREADS sets, if cores allow it."""
    return min(torch.get_num_threads(), allowed())


def allowed() -> int:
    """Return how many cores the system lets this process use."""
    return max(1, min(len(_affinity()), _quota()))


@cache
def free() -> int:
    """Return how many of the allowed cores are idle, rounded, at least 1; looked at once per command.

    Where the system does not tell what they do, all of them are.
    """
    if allowed() == 1:
        return 1
    before = _ticks()
    time.sleep(WATCHED)
    idle = _idle_cores(before, _ticks())
    return allowed() if idle is None else max(1, min(allowed(), int(idle + 0.5)))


def _idle_cores(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]]) -> float | None:
    """Return how many cores were idle between two readings of {core: (idle ticks, all ticks)}; None if untold."""
    known = before.keys() & after.keys()
    idle, ticks = (sum(after[core][k] - before[core][k] for core in known) for k in (0, 1))
    return len(known) * idle / ticks if ticks > 0 else None


def _ticks() -> dict[int, tuple[int, int]]:
    """Return {core: (idle ticks, all ticks)} since the system was started; empty where it does not tell."""
    found = {}
    with suppress(OSError, ValueError, IndexError):
        for line in LOAD.read_text(encoding="ascii").splitlines():
            name, *columns = line.split()
            if name.startswith("cpu") and name != "cpu" and int(name[3:]) in _affinity():
                ticks = [int(column) for column in columns[:8]]  # what guests take is part of the others
                found[int(name[3:])] = (sum(ticks[k] for k in _IDLE), sum(ticks))
    return found


def _affinity() -> frozenset[int]:
    """The cores that this process may be put on."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _quota() -> int:
    """Cores that a container or a service grants, where it says so: the least of all groups that this process is in."""
    granted = [quota for folder in _groups() for quota in _quota_of(folder)]
    return max(1, round(min(granted, default=2**31)))


def _groups() -> Iterator[Path]:
    """Yield the folders of the control groups that may limit this process: its own and those above, and the root's."""
    yield GROUPS
    yield GROUPS / "cpu"
    with suppress(OSError, ValueError):
        for line in OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            root = GROUPS if not kinds else GROUPS / "cpu" if "cpu" in kinds.split(",") else None
            own = Path(path.lstrip("/"))
            yield from () if root is None else (root / part for part in (own, *own.parents))


def _quota_of(folder: Path) -> Iterator[float]:
    """Yield how many cores a control group grants, if it limits them; second form: version 1 of control groups."""
    with suppress(OSError, ValueError):
        granted, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        yield int(granted) / int(period)
    with suppress(OSError, ValueError):
        granted, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        if int(granted) > 0:
            yield int(granted) / int(period)


def memory() -> int:
    """Return the bytes of memory that are free, or could be, where the system says so."""
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return 1024 * found.get("MemAvailable", 2**31)
    return 2**41


def going_on(begun: int | None, asked: int | None) -> int:
    """Return with how many threads something goes on that was begun before: as it was begun, for the same bits.

    Args:
        begun: with how many; None: not known.
        asked: with how many it is to go on, as the user says; None: nothing is said. More threads than there are
            cores, of a run that another machine has begun, are not taken over.
    """
    return asked or _taken_over(begun) or torch.get_num_threads()


def _taken_over(begun: int | None) -> int | None:
    return begun if begun is not None and begun <= allowed() else None


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads within the body."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def looking_at(path: Path, asked: int | None, device: torch.device) -> AbstractContextManager[None]:
    """Compute within the body as what looks at a run does: with the threads that it was begun with, for the same bits.

    Args:
        path: of a run directory or a file in it; of anything else, as many threads are taken as cores are free.
        asked: number of threads, as the user says; it decides.
        device: where it computes.
    """
    said = asked or (cores() if BY_USER in os.environ else None)
    return using(said or _taken_over(_begun_with(path)) or share_out(1, device, 1).threads)


def _begun_with(path: Path) -> int | None:
    """With how many threads a run was begun on a CPU, if it tells."""
    directory = RunDirectory(path if path.is_dir() else path.parent)
    with suppress(DataError, OSError):  # what is asked for is another file
        noted = directory.environment() if directory.exists else Environment()
        return noted.threads if noted.device == "cpu" else None
    return None
