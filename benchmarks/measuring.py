"""What the benchmarks share: a clock that waits for the device, turns, the machine, JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from drcli.errors import DrcliError

Work = Callable[[], object]

EPOCHS = {"cpu": 1, "cuda": 3}
"""Epochs of a turn: only the last one's files are waited for, as at the end of a run."""


def now(device: torch.device) -> float:
    """Seconds of the clock, read when the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_of(work: Work, device: torch.device) -> float:
    """Seconds that a piece of work takes."""
    started = now(device)
    work()
    return now(device) - started


def in_turns(
    works: Mapping[str, Work],
    device: torch.device,
    *,
    warmup: int,
    repeats: int,
    say: bool = True,
    limit: float | None = None,
) -> dict[str, list[float]]:
    """Seconds of each work, `repeats` of them: A B C A B C ..., so that a drift of the machine meets all alike.

    Args:
        works: what is measured, by name.
        device: what the clock waits for.
        warmup: turns that are not counted.
        repeats: turns that are.
        say: whether each figure is written to standard error as it comes.
        limit: seconds; a turn that would end later than that, by the time of the one before, is left out, except
            for the first one that counts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    began = before = time.perf_counter()
    for turn in range(-warmup, repeats):
        started = time.perf_counter()
        if limit is not None and turn > 0 and 2 * started - before - began > limit:
            print(f"{turn} of {repeats} turns: {limit:.0f} s are over", file=sys.stderr)
            break
        before = started
        for name, work in works.items():
            taken = seconds_of(work, device)
            if turn >= 0:
                seconds[name].append(taken)
            if say:
                counted = f"turn {turn + 1} of {repeats}" if turn >= 0 else "warm-up"
                print(f"{name}: {taken:.3f} s ({counted})", file=sys.stderr)
    return seconds


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Median over turns of one work's seconds divided by another's in the same turn."""
    return median(one / other for one, other in zip(of, to, strict=True))


def machine(device: torch.device) -> dict[str, Any]:
    """Where and under what load this is measured."""
    return {
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> dict[str, float | None]:
    """MiB at the worst moment so far: "process" with the memory maps it touched, "device" what torch allocated."""
    on_device = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"process": _peak_resident(), "device": on_device}


def _peak_resident() -> float:
    """MiB. The kernel's own high-water mark, where it tells; rusage also counts the process that started this one."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    marks = [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return marks[0] if marks else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
    return parser


def add_seconds(parser: argparse.ArgumentParser) -> None:
    """Let a parser ask for fewer turns where they take long."""
    parser.add_argument("--seconds", type=float, help="begin no turn that would end later; one is always counted")


def table_of(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; all columns but the first hold numbers."""
    table = Table(title=title, title_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, no_wrap=place == 0, justify="left" if place == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=160).print(table)


def write_report(path: Path | None, device: torch.device, found: Mapping[str, Any]) -> None:
    """Write the numbers and the machine as JSON, if a file is named."""
    if path is not None:
        report = {"machine": machine(device), **found}
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def percent(share: float | None) -> str:
    """A share as people read it."""
    return "-" if share is None else f"{100 * share:.1f} %"


@contextmanager
def polite() -> Iterator[None]:
    """End with one line where a user can do something about it."""
    try:
        yield
    except DrcliError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
