"""`drcli train`: run the grid of methods and seeds in this process, on several devices or on Ray; end in one table."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group
from rich.text import Text

from drcli import terminal
from drcli.commands.prepare import prepare_recipe
from drcli.data.format import INFO_FILE
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.engine.assemble import prepare_settings
from drcli.engine.cores import Sharing, share_out, using
from drcli.engine.device import bfloat16_line, resolve_device
from drcli.engine.distributed import check_devices, check_runs, joined, launched, on_devices
from drcli.engine.grid import GridResult, finished_among, is_stored, run_grid
from drcli.engine.jobs import run_jobs
from drcli.engine.ray_grid import RayOptions, connected, import_ray, run_ray_grid
from drcli.errors import DataError, DrcliError, InterruptedRunError, PeerError, RunError, UsageError
from drcli.models.weights import check_files
from drcli.names import DATASETS
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.registry import known
from drcli.report.render import rich_table, unbroken
from drcli.report.tables import NARROW, check_columns, comparison_tables, split_warnings
from drcli.runs.collect import RunRecord, by_recipe
from drcli.runs.comparison import Row, compare
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun, of_modalities, plan, select_labels, select_seeds, split_names
from drcli.runs.values import row_values
from drcli.task import REGRESSION
from drcli.watch.events import Listener, Listeners
from drcli.watch.loggers import Loggers, check_loggers
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
    if options.name == "ray":
        local_only = {"--devices": options.devices, "--jobs": options.jobs, "--threads": options.threads}
        _refuse(local_only, "belongs to --engine local; leave one of them out")
        import_ray()
        ray = RayOptions(options.address, options.cpus_per_run or 1, options.gpus_per_run, options.device)
        return partial(_train_on_ray, ray, options)
    if options.name != "local":
        raise UsageError(f"--engine {options.name}: must be local or ray")
    _refuse(ray_only, "belongs to --engine ray; add that, or leave it out")
    device = resolve_device(options.device)
    if options.devices is None or options.devices == 1:
        return partial(_train_at_once, options, device)
    if options.jobs not in {None, 1}:
        raise UsageError(
            f"--jobs {options.jobs}: --devices {options.devices} gives all to one run; leave one of them out"
        )
    check_devices(options.devices, device)
    return partial(_train_on_devices, options, options.devices, device)


def _refuse(options: Mapping[str, object], why: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} {value}: {why}")


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
    for line in _first_lines(sharing, options, device, runs):
        progress.print(Text(line, style="dim"), soft_wrap=True)
    if sharing.jobs == 1:
        with using(sharing.threads):
            return train_here(device, options, runs, dataset, progress, threads=sharing.asked)
    listener = grid_console(progress, len(folders))
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
) -> GridResult:
    """Train in this process, which may be one of several that train together; only the main one prints."""
    console = run_console(progress, len(runs))
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


@dataclass(frozen=True)
class TrainRequest:
    """What the command line asks for; see `drcli train --help`."""

    recipe: str
    overrides: Sequence[str]
    method: str | None
    seeds: str | None
    out: Path
    engine: EngineOptions
    reference: str | None = None
    columns: Sequence[str] | None = None


def train(request: TrainRequest, progress: Console) -> GridResult | None:
    """Train what a request asks for; None where another process of torchrun returns the result.

    Raises:
        DrcliError: bad usage or recipe, missing data, or an interrupt.
    """
    world = launched()
    return _train(request, progress) if world is None else _train_launched(world, request, progress)


def _train(request: TrainRequest, progress: Console) -> GridResult:
    engine, runs, recipe = _planned(request)
    check_weights(runs, fresh=request.engine.fresh)
    dataset = open_or_prepare(recipe, progress)
    try:
        return engine(runs, dataset, progress)
    except (InterruptedRunError, PeerError, RunError) as error:  # not what the engine refuses before the first run
        return ended_early(runs, error)


def _train_launched(world: World, request: TrainRequest, progress: Console) -> GridResult | None:
    """Train as one of the processes that torchrun has started; only the main one prints, and returns the result."""
    progress.quiet = not world.is_main
    asked = request.engine
    try:
        engine = None if asked.name == "local" else asked.name
        given = {"--devices": asked.devices, "--jobs": asked.jobs, "--engine": engine}
        _refuse(given, f"torchrun has started {world.size} processes already; leave it out")
        _, runs, recipe = _planned(request)
        device = resolve_device(asked.device)
        check_devices(int(os.environ["LOCAL_WORLD_SIZE"]), device)
        check_weights(runs, fresh=asked.fresh)
        with joined(world, device, "env://", int(os.environ["LOCAL_RANK"])) as own:
            dataset = world.on_main(lambda: open_or_prepare(recipe, progress))
            check_runs(runs, dataset, device, world.size)
            with using(asked.threads or torch.get_num_threads()):
                result = train_here(own, asked, runs, dataset, progress, world, asked.threads)
    except DrcliError as error:
        if world.is_main or isinstance(error, PeerError):
            raise
        sys.exit(error.exit_code)
    return result if world.is_main else None


def _planned(request: TrainRequest) -> tuple[Engine, list[PlannedRun], Recipe]:
    engine = select_engine(request.engine)
    return engine, *requested(request)


def requested(request: TrainRequest) -> tuple[list[PlannedRun], Recipe]:
    """Return the runs that a request asks for, and their recipe; nothing is prepared or trained.

    Raises:
        DrcliError: bad usage or recipe.
    """
    check_columns(request.columns or ())
    asked, _ = split_names(request.method)
    recipe = load_recipe(find_recipe(request.recipe), request.overrides, lambda found: select_labels(found, asked))
    labels, seeds = select_labels(recipe, asked), select_seeds(recipe, request.seeds)
    runs = of_modalities(plan(recipe, labels, seeds, request.out), request.method)
    check_reference(request.reference, runs)
    return runs, recipe


def check_reference(label: str | None, runs: Sequence[PlannedRun]) -> None:
    """Refuse a reference that is not trained, before anything is.

    Raises:
        UsageError: no run has this name.
    """
    names = dict.fromkeys(run.name for run in runs)
    if label is not None and label not in names:
        raise UsageError(f"--reference {label}: is not among the runs of this command; {known(label, names)}")


def check_weights(runs: Sequence[PlannedRun], *, fresh: bool = False) -> None:
    """Check loggers and files of pre-trained weights before data is read, for the runs that are not finished.

    Raises:
        UsageError: the package of a logger is not installed.
        DataError: a file cannot be read, or does not fit its encoder.
    """
    left = [run for run in runs if fresh or not _is_finished(run)]
    check_loggers(left)
    blocks = {(m, repr(block)): block for run in left for m in run.modalities if (block := run.recipe.modalities[m])}
    check_files((m, block) for (m, _), block in blocks.items())


def _is_finished(run: PlannedRun) -> bool:
    try:
        return RunDirectory(run.folder).is_finished(run.recipe)
    except DataError:  # which the run itself will refuse
        return True


def open_or_prepare(recipe: Recipe, progress: Console) -> PreparedDataset:
    """Open the recipe's dataset; prepare it first if that takes no download.

    Raises:
        DataError: it is missing, damaged, or prepared with other settings.
    """
    block = recipe.dataset
    if not (block.root / INFO_FILE).exists() and not DATASETS.load(block.name).needs_source:
        prepare_recipe(recipe, progress)
    dataset = open_dataset(block.root, name=block.name, settings=prepare_settings(recipe))
    limit = dataset.info.source.get("limit")
    limited = [f"{block.root}: prepared with --limit {limit}: a part of {block.name} only"] if limit is not None else []
    for warning in (*limited, *dataset.warnings):
        progress.print(Text(warning, style="yellow"))
    return dataset


def to_json(result: GridResult, reference: str | None = None) -> dict[str, Any]:
    """Return the object of `drcli train --json`."""
    return {
        "runs": [_run_json(run) for run in result.runs],
        "summary": [row_json(row) for of_one in by_recipe(result.runs).values() for row in compare(of_one, reference)],
        **({"warnings": warnings} if (warnings := split_warnings(result.runs)) else {}),
        **({"failed": result.messages} if result.messages else {}),
    }


def _run_json(run: RunRecord) -> dict[str, Any]:
    return {**run.done.to_dict(), "run_dir": str(run.folder), "checkpoint": str(run.files.checkpoint)}


def row_json(row: Row) -> dict[str, Any]:
    """Return a row of the comparison in the keys of the command line's contract."""
    found, difference, score = row_values(row), row.difference, row.task.first.key
    kept = (
        *("method", "n", f"{score}_mean", f"{score}_std", f"val_{score}_mean", f"val_{score}_std"),
        *(("corr_mean", "corr_std") if row.task is REGRESSION else ()),
        *("fused_probe_mean", "fused_probe_std"),
    )
    return {
        **{key: found[key] for key in kept},
        "difference_to_joint": difference and difference.mean,
        "difference_ci95": difference and difference.t95,
        "difference_p": difference and difference.p,
        "difference_p_holm": difference and difference.p_holm,
        "reference": difference and difference.to,
    }


def tables(result: GridResult, request: TrainRequest) -> Group:
    """Return the comparison of each recipe's finished runs, of which there is at least one."""
    place = os.path.commonpath([run.folder for run in result.runs])
    shown = comparison_tables(result.runs, request.reference, request.columns or NARROW)
    return Group(*map(rich_table, shown), unbroken(f"runs, with their checkpoint.pt: {place}", "dim"))


def ended_early(runs: Sequence[PlannedRun], error: DrcliError) -> GridResult:
    """Return what is finished of a grid that an error has ended, so that its table can be shown.

    Raises:
        DrcliError: that error, where nothing is finished.
    """
    done = finished_among(runs)
    if not done:
        raise error
    return GridResult(done, ended=error)
