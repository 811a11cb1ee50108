"""`drcli train`: run the grid of methods and seeds, and end in one table."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_prep import DATASETS
from drcli.commands.prepare import prepare_recipe
from drcli.data.format import INFO_FILE
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.engine.assemble import prepare_settings
from drcli.engine.device import resolve_device
from drcli.engine.grid import GridResult, run_grid
from drcli.engine.listener import Listener, Listeners
from drcli.engine.plan import plan, select_labels, select_seeds
from drcli.errors import InterruptedRunError
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.report.console import ConsoleListener, how_selected, percent
from drcli.report.tensorboard import TensorBoardListener


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


def train(request: TrainRequest, progress: Console) -> GridResult:
    """Train what a request asks for.

    Raises:
        DrcliError: bad usage or recipe, missing data, or an interrupt.
    """
    device = resolve_device(request.device)
    recipe = load_recipe(find_recipe(request.recipe), request.overrides)
    labels, seeds = select_labels(recipe, request.method), select_seeds(recipe, request.seeds)
    runs = plan(recipe, labels, seeds, request.out)
    dataset = open_or_prepare(recipe, progress)
    listener = Listeners(ConsoleListener(progress, len(runs)), TensorBoardListener())
    with _stoppable(listener):
        return run_grid(runs, dataset, device=device, listener=listener, fresh=request.fresh)


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
def _stoppable(listener: Listener) -> Iterator[None]:
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
    out = Table(title=f"Test accuracy (epoch {selected})", title_justify="left")
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
        seconds = sum(run["seconds"] for run in runs) / len(runs)
        out.add_row(row["method"], str(row["n"]), _accuracy(row), *probes, _difference(row), f"{seconds:.0f}")
    return out


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
