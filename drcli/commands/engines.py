"""How a grid of runs is trained: in this process, several at once, on several devices, or on Ray."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial

import torch
from rich.console import Console

from drcli import terminal
from drcli.data.prepared import PreparedDataset
from drcli.engine.cores import Sharing, share_out, using
from drcli.engine.device import bfloat16_line, resolve_device
from drcli.engine.distributed import check_devices, check_runs, on_devices
from drcli.engine.grid import GridResult, is_stored, run_grid
from drcli.engine.jobs import run_jobs
from drcli.engine.ray_cluster import import_ray, refuse, uses_ray
from drcli.engine.ray_grid import RayOptions, connected, run_ray_grid
from drcli.errors import UsageError
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Listener, Listeners
from drcli.watch.loggers import Loggers
from drcli.watch.notebook import grid_console, run_console
from drcli.world import ALONE, World


@dataclass(frozen=True)
class EngineOptions:
    """Where and how runs are trained; see `drcli train --help`.

    Attributes:
        is_program: whether this process is the command line's: it handles signals, and processes that it starts import
            its main module. Called from other code, drcli does neither: Ctrl-C stays a KeyboardInterrupt, and a script
            is not run once more by each process.
    """

    device: str = "auto"
    name: str = "local"
    address: str | None = None
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    devices: int | None = None
    fresh: bool = False
    jobs: int | None = None
    threads: int | None = None
    is_program: bool = True


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
    if uses_ray(options.name, ray_only):
        local_only = {"--devices": options.devices, "--jobs": options.jobs, "--threads": options.threads}
        refuse(local_only, "belongs to --engine local; leave one of them out")
        import_ray()
        ray = RayOptions(options.address, options.cpus_per_run or 1, options.gpus_per_run, options.device)
        return partial(_train_on_ray, ray, options)
    device = resolve_device(options.device)
    if options.devices is None or options.devices == 1:
        return partial(_train_at_once, options, device)
    if options.jobs not in {None, 1}:
        raise UsageError(
            f"--jobs {options.jobs}: --devices {options.devices} gives all to one run; leave one of them out"
        )
    check_devices(options.devices, device)
    return partial(_train_on_devices, options, options.devices, device)


def _train_at_once(
    options: EngineOptions,
    device: torch.device,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    progress: Console,
) -> GridResult:
    """Train several runs at once, or in this process where that is one run at a time."""
    folders = {run.folder for run in runs}
    if not options.fresh and all(map(is_stored, runs)):
        return train_here(device, options, runs, dataset, progress)
    sharing = share_out(options.jobs, device, len(folders), options.threads)
    first = list(_first_lines(sharing, options, device, runs))
    if sharing.jobs == 1:
        with using(sharing.threads):
            return train_here(device, options, runs, dataset, progress, threads=sharing.asked, first=first)
    listener = grid_console(progress, len(folders))
    listener.begin(first)
    with stoppable(listener, signals=options.is_program):
        return run_jobs(
            runs,
            dataset,
            sharing=sharing,
            device=device,
            listener=listener,
            on_worker=Loggers(),
            fresh=options.fresh,
            imports_main=options.is_program,
        )


def _first_lines(
    sharing: Sharing, options: EngineOptions, device: torch.device, runs: Sequence[PlannedRun]
) -> Iterator[str]:
    """Yield how the runs share the machine, and on a CPU what would make them faster."""
    hint = "" if options.jobs else "; --jobs N trains N at once"
    if sharing.jobs > 1:
        yield f"{sharing}{hint}"
    elif device.type == "cpu":
        yield f"{sharing}" + ("" if sharing.is_asked else "; --threads N takes N")
    line = bfloat16_line(device, [run.recipe for run in runs])
    if line is not None:
        yield line


def train_here(
    device: torch.device,
    options: EngineOptions,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    progress: Console,
    world: World = ALONE,
    threads: int | None = None,
    first: Sequence[str] = (),
) -> GridResult:
    """Train in this process, which may be one of several that train together; only the main one prints."""
    console = run_console(progress, len(runs))
    console.begin(first)
    listener = Listeners(*((console, Loggers(console)) if world.is_main else ()))
    with stoppable(listener, signals=options.is_program):
        return run_grid(
            runs, dataset, device=device, listener=listener, fresh=options.fresh, world=world, threads=threads
        )


def _train_on_devices(
    options: EngineOptions,
    count: int,
    device: torch.device,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    progress: Console,
) -> GridResult:
    check_runs(runs, dataset, device, count)
    width = None if progress.is_terminal else progress.width
    work = partial(_train_as_one, replace(options, is_program=True), list(runs), dataset, width, sys.argv)
    each = share_out(count, device, count, options.threads).threads
    with stoppable(Listener(), signals=options.is_program):
        return on_devices(count, device, work, each, imports_main=options.is_program)


def _train_as_one(
    options: EngineOptions,
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
    return train_here(device, options, runs, dataset, console, world, options.threads)


def _train_on_ray(
    ray: RayOptions, options: EngineOptions, runs: Sequence[PlannedRun], dataset: PreparedDataset, progress: Console
) -> GridResult:
    listener, on_worker = grid_console(progress, len(runs)), Loggers()
    # Ray prints what happens to workers, and puts its own handler on SIGTERM, which `stoppable` replaces.
    with redirect_stdout(sys.stderr), connected(ray) as each, stoppable(listener, signals=options.is_program):
        return run_ray_grid(runs, dataset, each=each, listener=listener, on_worker=on_worker, fresh=options.fresh)


@contextmanager
def stoppable(listener: Listener, *, signals: bool = True) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one message; every finished epoch is on disk already.

    Args:
        listener: is closed at the end.
        signals: False leaves signals to whoever called: only the listener is closed.
    """
    if not signals:
        with closing(listener):
            yield
        return

    try:
        with terminal.interruptible("stopped; every finished epoch is saved. Repeat the same command to resume"):
            yield
    finally:
        listener.close()
