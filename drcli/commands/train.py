"""`drcli train`: run the grid of methods and seeds, and end in one table."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep import DATASETS
from drcli.commands.prepare import prepare_recipe
from drcli.data.format import INFO_FILE
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.engine.assemble import prepare_settings
from drcli.engine.device import resolve_device
from drcli.engine.distributed import check_devices, check_runs, joined, launched, on_devices
from drcli.engine.grid import GridResult, run_grid
from drcli.engine.listener import Listener, Listeners
from drcli.engine.plan import PlannedRun, plan, select_labels, select_seeds
from drcli.engine.ray_grid import RayOptions, connected, import_ray, run_ray_grid
from drcli.errors import DrcliError, InterruptedRunError, PeerError, UsageError
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.report.console import ConsoleListener, how_selected, percent
from drcli.report.grid_table import GridConsole
from drcli.report.tensorboard import TensorBoardListener
from drcli.world import ALONE, World


@dataclass(frozen=True)
class TrainRequest:
    """What the command line asks for; see `drcli train --help`."""

    recipe: str
    overrides: Sequence[str]
    method: str | None
    seeds: str | None
    out: Path
    device: str
    fresh: bool
    engine: str = "local"
    address: str | None = None
    cpus_per_run: int | None = None
    gpus_per_run: float | None = None
    devices: int | None = None


Engine = Callable[[Sequence[PlannedRun], PreparedDataset, Console], GridResult]


def train(request: TrainRequest, progress: Console) -> GridResult | None:
    """Train what a request asks for; None where another process of torchrun returns the result.

    Raises:
        DrcliError: bad usage or recipe, missing data, or an interrupt.
    """
    world = launched()
    return _train(request, progress) if world is None else _train_launched(world, request, progress)


def _train(request: TrainRequest, progress: Console) -> GridResult:
    engine, runs, recipe = _planned(request)
    return engine(runs, open_or_prepare(recipe, progress), progress)


def _train_launched(world: World, request: TrainRequest, progress: Console) -> GridResult | None:
    """Train as one of the processes that torchrun has started; the main one alone speaks, and returns the result."""
    progress.quiet = not world.is_main
    try:
        if request.devices is not None or request.engine != "local":
            name = f"--engine {request.engine}" if request.devices is None else f"--devices {request.devices}"
            raise UsageError(f"{name}: torchrun has started {world.size} processes already; leave it out")
        _, runs, recipe = _planned(request)
        device = resolve_device(request.device)
        check_devices(int(os.environ["LOCAL_WORLD_SIZE"]), device)
        with joined(world, device, "env://", int(os.environ["LOCAL_RANK"])) as own:
            dataset = world.on_main(lambda: open_or_prepare(recipe, progress))
            check_runs(runs, dataset, device, world.size)
            result = _train_here(own, request.fresh, runs, dataset, progress, world)
    except DrcliError as error:
        if world.is_main or isinstance(error, PeerError):
            raise
        sys.exit(error.exit_code)
    return result if world.is_main else None


def _planned(request: TrainRequest) -> tuple[Engine, list[PlannedRun], Recipe]:
    engine = select_engine(request)
    recipe = load_recipe(
        find_recipe(request.recipe), request.overrides, lambda found: select_labels(found, request.method)
    )
    labels, seeds = select_labels(recipe, request.method), select_seeds(recipe, request.seeds)
    return engine, plan(recipe, labels, seeds, request.out), recipe


def select_engine(request: TrainRequest) -> Engine:
    """Return what executes the runs of a request.

    Raises:
        UsageError: the engine or device is unknown or not there, or an option belongs to the other engine.
    """
    ray_only = {
        "--address": request.address,
        "--cpus-per-run": request.cpus_per_run,
        "--gpus-per-run": request.gpus_per_run,
    }
    if request.engine == "ray":
        if request.devices is not None:
            raise UsageError(f"--devices {request.devices}: belongs to --engine local; leave one of them out")
        import_ray()
        options = RayOptions(request.address, request.cpus_per_run or 1, request.gpus_per_run, request.device)
        return partial(_train_on_ray, options, request.fresh)
    if request.engine != "local":
        raise UsageError(f"--engine {request.engine}: must be local or ray")
    for name, value in ray_only.items():
        if value is not None:
            raise UsageError(f"{name} {value}: belongs to --engine ray; add that, or leave it out")
    device = resolve_device(request.device)
    if request.devices is None or request.devices == 1:
        return partial(_train_here, device, request.fresh)
    check_devices(request.devices, device)
    return partial(_train_on_devices, request.devices, device, request.fresh)


def _train_here(
    device: torch.device,
    fresh: bool,
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    progress: Console,
    world: World = ALONE,
) -> GridResult:
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
    return _train_here(device, fresh, runs, dataset, Console(stderr=True, width=width), world)


def _train_on_ray(
    options: RayOptions, fresh: bool, runs: Sequence[PlannedRun], dataset: PreparedDataset, progress: Console
) -> GridResult:
    listener, on_worker = GridConsole(progress, len(runs)), TensorBoardListener()
    # Ray prints what happens to workers, and puts its own handler on SIGTERM, which `stoppable` replaces.
    with redirect_stdout(sys.stderr), connected(options) as each, stoppable(listener):
        return run_ray_grid(runs, dataset, each=each, listener=listener, on_worker=on_worker, fresh=fresh)


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


@contextmanager
def stoppable(listener: Listener) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into one message; every finished epoch is on disk already."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "stopped; every finished epoch is saved. Repeat the same command to go on where it was"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, previous)
        listener.close()


def to_json(result: GridResult) -> dict[str, Any]:
    """Return the object of `drcli train --json`."""
    return {
        "runs": result.runs,
        "summary": result.summary,
        **({"failed": result.failed} if result.failed else {}),
    }


def table(result: GridResult) -> Table:
    """Return the comparison: accuracy over seeds, probes by modality, difference to joint training."""
    selected = "; ".join(sorted({how_selected(run["selection"], run["monitor"]) for run in result.runs}))
    place = os.path.commonpath([run["run_dir"] for run in result.runs])
    out = Table(
        title=f"Test accuracy (epoch {selected})",
        title_justify="left",
        caption=f"runs, with their checkpoint.pt: {place}",
        caption_justify="left",
    )
    modalities = list(dict.fromkeys(m for run in result.runs for m in run["unimodal"]))
    for name, justify in (("method", "left"), ("seeds", "right"), ("accuracy", "right")):
        out.add_column(name, justify=justify)  # type: ignore[arg-type]
    for m in modalities:
        out.add_column(f"{m} probe", justify="right")
    out.add_column("minus joint", justify="right")
    out.add_column("s / run", justify="right")
    for row in result.summary:
        runs = [run for run in result.runs if _name(run) == row["method"]]
        probes = [_mean(_probes(runs, m)) for m in modalities]
        out.add_row(row["method"], str(row["n"]), _accuracy(row), *probes, _difference(row), _seconds(runs))
    return out


def _seconds(runs: list[dict[str, Any]]) -> str:
    """Mean seconds of a run; "+ 40" are those of the unimodal runs that it starts from and shares."""
    own, before = (fmean(run.get(key, 0.0) for run in runs) for key in ("seconds", "teacher_seconds"))
    return f"{own:.0f} + {before:.0f}" if before else f"{own:.0f}"


def _probes(runs: list[dict[str, Any]], modality: str) -> list[float]:
    return [run["unimodal"][modality]["probe_accuracy"] for run in runs if modality in run["unimodal"]]


def _name(run: dict[str, Any]) -> str:
    return f"{run['method']}:{run['modality']}" if "modality" in run else str(run["method"])


def _mean(fractions: list[float]) -> str:
    return percent(sum(fractions) / len(fractions)) if fractions else "-"


def _accuracy(row: dict[str, Any]) -> str:
    std = row["accuracy_std"]
    mean = 100 * row["accuracy_mean"]
    return f"{mean:.1f} %" if std is None else f"{mean:.1f} ± {100 * std:.1f} %"


def _difference(row: dict[str, Any]) -> str:
    if row["difference_to_joint"] is None:
        return "-"
    text = f"{100 * row['difference_to_joint']:+.1f}"
    if row["difference_ci95"] is None:
        return text
    low, high = row["difference_ci95"]
    return f"{text} [{100 * low:+.1f}, {100 * high:+.1f}]"
