"""What executes planned runs: this process, several devices together, or Ray."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console

from drcli import terminal
from drcli.data.prepared import PreparedDataset
from drcli.engine.device import resolve_device
from drcli.engine.distributed import check_devices, check_runs, on_devices
from drcli.engine.grid import GridResult, run_grid
from drcli.engine.ray_grid import RayOptions, connected, import_ray, run_ray_grid
from drcli.errors import InterruptedRunError, UsageError
from drcli.runs.planned import PlannedRun
from drcli.watch.console import ConsoleListener
from drcli.watch.events import Listener, Listeners
from drcli.watch.grid_table import GridConsole
from drcli.watch.tensorboard import TensorBoardListener
from drcli.world import ALONE, World


@dataclass(frozen=True)
class EngineOptions:
    """Where and how runs are trained; see `drcli train --help`."""

    device: str = "auto"
    name: str = "local"
    address: str | None = None
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    devices: int | None = None
    fresh: bool = False


Engine = Callable[[Sequence[PlannedRun], PreparedDataset, Console], GridResult]


def select_engine(options: EngineOptions) -> Engine:
    """Return what executes the runs of a command.

    Raises:
        UsageError: the engine or device is unknown or not there, or an option belongs to the other engine.
    """
    ray_only = {
        "--address": options.address,
        "--cpus-per-run": options.cpus_per_run,
        "--gpus-per-run": options.gpus_per_run,
    }
    if options.name == "ray":
        if options.devices is not None:
            raise UsageError(f"--devices {options.devices}: belongs to --engine local; leave one of them out")
        import_ray()
        ray = RayOptions(options.address, options.cpus_per_run or 1, options.gpus_per_run, options.device)
        return partial(_train_on_ray, ray, options.fresh)
    if options.name != "local":
        raise UsageError(f"--engine {options.name}: must be local or ray")
    for name, value in ray_only.items():
        if value is not None:
            raise UsageError(f"{name} {value}: belongs to --engine ray; add that, or leave it out")
    device = resolve_device(options.device)
    if options.devices is None or options.devices == 1:
        return partial(train_here, device, options.fresh)
    check_devices(options.devices, device)
    return partial(_train_on_devices, options.devices, device, options.fresh)


def train_here(
    device: torch.device,
    fresh: bool,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    progress: Console,
    world: World = ALONE,
) -> GridResult:
    """Train in this process, which may be one of several that train together; the main one alone speaks."""
    heard = (ConsoleListener(progress, len(runs)), TensorBoardListener()) if world.is_main else ()
    listener = Listeners(*heard)
    with stoppable(listener):
        return run_grid(runs, dataset, device=device, listener=listener, fresh=fresh, world=world)


def _train_on_devices(
    count: int,
    device: torch.device,
    fresh: bool,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    progress: Console,
) -> GridResult:
    check_runs(runs, dataset, device, count)
    width = None if progress.is_terminal else progress.width
    with stoppable(Listener()):
        return on_devices(count, device, partial(_train_as_one, fresh, list(runs), dataset, width, sys.argv))


def _train_as_one(
    fresh: bool,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    width: int | None,
    command: list[str],
    world: World,
    device: torch.device,
) -> GridResult:
    """Train as one of the processes that this command has started."""
    sys.argv[:] = command  # for environment.json
    console = terminal.console(stderr=True)
    if width is not None:
        console.width = width
    return train_here(device, fresh, runs, dataset, console, world)


def _train_on_ray(
    options: RayOptions, fresh: bool, runs: Sequence[PlannedRun], dataset: PreparedDataset, progress: Console
) -> GridResult:
    listener, on_worker = GridConsole(progress, len(runs)), TensorBoardListener()
    # Ray prints what happens to workers, and puts its own handler on SIGTERM, which `stoppable` replaces.
    with redirect_stdout(sys.stderr), connected(options) as each, stoppable(listener):
        return run_ray_grid(runs, dataset, each=each, listener=listener, on_worker=on_worker, fresh=fresh)


@contextmanager
def stoppable(listener: Listener) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one message; every finished epoch is on disk already."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped; every finished epoch is saved. Repeat the same command to resume") from None
    finally:
        signal.signal(signal.SIGTERM, previous)
        listener.close()
