"""`drcli train`: run the grid of methods and seeds in this process, on several devices or on Ray; end in one table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console, Group
from rich.text import Text

from drcli.commands.engines import Engine, EngineOptions, select_engine, train_here
from drcli.commands.prepare import prepare_recipe
from drcli.data.format import INFO_FILE
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.engine.assemble import prepare_settings
from drcli.engine.cores import using
from drcli.engine.device import resolve_device
from drcli.engine.distributed import check_devices, check_runs, joined, launched
from drcli.engine.grid import GridResult, finished_among
from drcli.engine.ray_cluster import refuse
from drcli.errors import DataError, DrcliError, InterruptedRunError, PeerError, RunError, UsageError
from drcli.models.weights import check_files
from drcli.names import BACKBONES, DATASETS
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
from drcli.watch.loggers import check_loggers
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
        refuse(given, f"torchrun has started {world.size} processes already; leave it out")
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
    asked, _ = split_names(request.method)
    recipe = load_recipe(find_recipe(request.recipe), request.overrides, lambda found: select_labels(found, asked))
    check_columns(request.columns or (), recipe.task)
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
    for warning in (*limited, *dataset.warnings, *_of_tokenizers(recipe)):
        progress.print(Text(warning, style="yellow"))
    return dataset


def _of_tokenizers(recipe: Recipe) -> Iterator[str]:
    """Yield what speaks against giving a dataset's token ids to the encoders."""
    prepare = recipe.dataset.prepare
    if getattr(prepare, "text", None) != "tokens" or not hasattr(prepare, "tokenizer"):
        return
    for m, block in recipe.modalities.items():
        doubt = BACKBONES.load(block.backbone).doubt_tokenizer(block.settings, prepare.tokenizer)
        if doubt is not None:
            yield f"modalities.{m}: {doubt}"


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
