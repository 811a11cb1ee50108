"""`drcli train`: run the grid of methods and seeds, and end in one table."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from drcli.commands.engines import Engine, EngineOptions, select_engine, train_here
from drcli.commands.prepare import prepare_recipe
from drcli.data.format import INFO_FILE
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.engine.assemble import prepare_settings
from drcli.engine.device import resolve_device
from drcli.engine.distributed import check_devices, check_runs, joined, launched
from drcli.engine.grid import GridResult
from drcli.engine.plan import PlannedRun, plan, select_labels, select_seeds
from drcli.errors import DrcliError, PeerError, UsageError
from drcli.names import DATASETS
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.report.console import how_selected, percent
from drcli.report.render import titled
from drcli.world import World


@dataclass(frozen=True)
class TrainRequest:
    """What the command line asks for; see `drcli train --help`."""

    recipe: str
    overrides: Sequence[str]
    method: str | None
    seeds: str | None
    out: Path
    engine: EngineOptions


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
    asked = request.engine
    try:
        if asked.devices is not None or asked.name != "local":
            name = f"--engine {asked.name}" if asked.devices is None else f"--devices {asked.devices}"
            raise UsageError(f"{name}: torchrun has started {world.size} processes already; leave it out")
        _, runs, recipe = _planned(request)
        device = resolve_device(asked.device)
        check_devices(int(os.environ["LOCAL_WORLD_SIZE"]), device)
        with joined(world, device, "env://", int(os.environ["LOCAL_RANK"])) as own:
            dataset = world.on_main(lambda: open_or_prepare(recipe, progress))
            check_runs(runs, dataset, device, world.size)
            result = train_here(own, asked.fresh, runs, dataset, progress, world)
    except DrcliError as error:
        if world.is_main or isinstance(error, PeerError):
            raise
        sys.exit(error.exit_code)
    return result if world.is_main else None


def _planned(request: TrainRequest) -> tuple[Engine, list[PlannedRun], Recipe]:
    engine = select_engine(request.engine)
    recipe = load_recipe(
        find_recipe(request.recipe), request.overrides, lambda found: select_labels(found, request.method)
    )
    labels, seeds = select_labels(recipe, request.method), select_seeds(recipe, request.seeds)
    return engine, plan(recipe, labels, seeds, request.out), recipe


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


def to_json(result: GridResult) -> dict[str, Any]:
    """Return the object of `drcli train --json`."""
    return {
        "runs": result.runs,
        "summary": result.summary,
        **({"failed": result.failed} if result.failed else {}),
    }


def table(result: GridResult) -> Group:
    """Return the comparison: accuracy over seeds, probes by modality, difference to joint training."""
    selected = "; ".join(sorted({how_selected(run["selection"], run["monitor"]) for run in result.runs}))
    place = os.path.commonpath([run["run_dir"] for run in result.runs])
    out = Table()
    modalities = list(dict.fromkeys(m for run in result.runs for m in run["unimodal"]))
    for name, justify in (("method", "left"), ("seeds", "right"), ("accuracy", "right")):
        out.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for name in (*(f"{m} probe" for m in modalities), "minus joint", "s / run"):
        out.add_column(name, justify="right", overflow="fold")
    for row in result.summary:
        runs = [run for run in result.runs if _name(run) == row["method"]]
        probes = [_mean(_probes(runs, m)) for m in modalities]
        out.add_row(Text(row["method"]), str(row["n"]), _accuracy(row), *probes, _difference(row), _seconds(runs))
    return titled(f"Test accuracy (epoch {selected})", out, f"runs, with their checkpoint.pt: {place}")


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
