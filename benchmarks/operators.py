"""Which operators a piece of work spends its time in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.measuring import percent, table_of


@dataclass(frozen=True)
class Operator:
    """One of torch's operators.

    Attributes:
        name: as torch calls it.
        share: of the time that all operators take for themselves, on the device.
        calls: their number.
    """

    name: str
    share: float
    calls: int


def operators_of(work: Callable[[], object], device: torch.device) -> list[Operator]:
    """Run a piece of work once under torch's profiler, which slows it down, and return its operators by time."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiled:
        work()
        if on_gpu:
            torch.cuda.synchronize(device)
    # A kernel has an entry of its own beside that of the operator which launched it.
    found = [event for event in profiled.key_averages() if event.device_type.name == "CPU"]
    times = [event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in found]
    total = sum(times) or 1
    each = [Operator(event.key, time / total, event.count) for event, time in zip(found, times, strict=True)]
    return sorted(each, key=lambda one: one.share, reverse=True)


def show_operators(found: list[Operator], title: str, most: int = 10) -> None:
    """Print the operators that take most."""
    rows = [(one.name, percent(one.share), f"{one.calls:,}") for one in found[:most]]
    rows.append(("all others", percent(sum(one.share for one in found[most:])), ""))
    table_of(title, ("operator", "share", "calls"), rows)
