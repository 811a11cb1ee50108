"""What Python code calls: `drcli.train(...)`, `prepare`, `diagnose`, `evaluate`, `compare`; the commands as functions.

They do what the commands do, and return typed records in place of printing them. Where a command ends with a message
and an exit code, they raise a `DrcliError`; signals and torch's modes stay as the caller has them. Values in place of
a recipe's are a mapping, {"training.epochs": 5}, or texts as on the command line, ["training.epochs=5"].
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

from drcli import arguments, terminal
from drcli.arguments import Overrides, Place, Series
from drcli.commands import diagnose as diagnosing
from drcli.commands import evaluate as evaluating
from drcli.commands import train as training
from drcli.commands.conditions import Asked
from drcli.commands.diagnose import Report
from drcli.commands.engines import EngineOptions
from drcli.commands.train import TrainRequest
from drcli.engine.distributed import launched
from drcli.errors import FailedRunsError, UsageError
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS
from drcli.report.render import render
from drcli.report.tables import NARROW, comparison_tables
from drcli.runs.collect import RunRecord, by_recipe, collect, finished
from drcli.runs.comparison import Row
from drcli.runs.comparison import compare as compare_runs
from drcli.runs.evaluated import Evaluated, EvaluatedRuns

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Comparison:
    """Runs, and what `drcli train` says of them; a notebook shows it as the table.

    Attributes:
        runs: as they lie on the disk.
        rows: one for each method of each recipe, over its finished runs.
        reference: label that differences are to; None for joint training.
        columns: keys of the table's columns.
    """

    runs: tuple[RunRecord, ...]
    rows: tuple[Row, ...]
    reference: str | None = None
    columns: tuple[str, ...] = NARROW

    def __str__(self) -> str:
        """Return the table in Markdown."""
        tables = comparison_tables(self.runs, self.reference, self.columns) if finished(self.runs) else []
        return "\n".join(render(table, "markdown") for table in tables)

    def _repr_markdown_(self) -> str:
        return str(self)


def _leaving_torch(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function leave torch's modes as they were: a run sets them for the whole process."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with _same_modes():
            return function(*args, **kwargs)

    return wrapper


@contextmanager
def _same_modes() -> Iterator[None]:
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]


@_leaving_torch
def train(  # noqa: PLR0913 - one argument for each option
    recipe: Place,
    overrides: Overrides = (),
    *,
    method: str | Iterable[str] | None = None,
    seeds: int | str | Iterable[int] | None = None,
    out: Place = "runs",
    device: str = "auto",
    jobs: int | None = None,
    devices: int | None = None,
    fresh: bool = False,
    engine: str = "local",
    address: str | None = None,
    cpus_per_run: int | None = None,
    gpus_per_run: float | None = None,
    reference: str | None = None,
    columns: Iterable[str] | None = None,
    progress: bool = True,
) -> Comparison:
    """Train methods and seeds, as `drcli train` does; finished runs are read, unfinished ones are resumed.

    Ctrl-C, or the stop button of a notebook, is a KeyboardInterrupt; call it again to resume after the last finished
    epoch. Processes that it starts (`jobs`, `devices`) do not run the script that calls it, so that a method which was
    registered there trains with `jobs=1`, as it does by default.

    Args:
        recipe: a path, or the name of one that comes with drcli.
        overrides: values in place of the recipe's.
        method: labels of the recipe's methods, or "all"; None: its `method`.
        seeds: one or several; None: those of the recipe.
        out: folder that holds the runs.
        device: auto, cpu or cuda.
        jobs: runs trained at once; None: as many as pay.
        devices: GPUs, or processes on the CPU, that train each run together.
        fresh: delete runs that are in the folder, and start over.
        engine: local, or ray.
        address: of a Ray cluster.
        cpus_per_run: on Ray.
        gpus_per_run: on Ray.
        reference: label that differences are to; None: joint training.
        columns: keys of the columns of the table; None: those that fit into a terminal.
        progress: whether to show how runs go on, their notes and warnings: on standard error, or below a notebook's
            cell.

    Returns:
        The runs, and their comparison.

    Raises:
        DrcliError: bad usage or recipe, or missing data.
        FailedRunsError: a run has failed; those that finished are its `result`.
    """
    if launched() is not None:
        raise UsageError("drcli.train: started by torchrun; start the script without it, or use `drcli train`")
    arguments.at_least(1, jobs=jobs, devices=devices, cpus_per_run=cpus_per_run)
    keys = arguments.column_keys(columns)
    jobs = 1 if jobs is None and engine == "local" and devices is None and _names_of_this_process() else jobs
    options = EngineOptions(
        device, engine, address, cpus_per_run, gpus_per_run, devices, fresh=fresh, jobs=jobs, is_program=False
    )
    request = TrainRequest(
        str(recipe),
        arguments.texts(overrides),
        arguments.listed(method),
        arguments.listed(seeds),
        Path(out),
        options,
        reference,
        keys,
    )
    found = training.train(request, terminal.console(stderr=True, quiet=not progress))
    assert found is not None
    compared = _compared(found.runs, reference, keys)
    if found.messages:
        raise FailedRunsError("\n".join(found.messages), compared)
    return compared


def compare(
    runs: Place | Iterable[Place | RunRecord], *, reference: str | None = None, columns: Iterable[str] | None = None
) -> Comparison:
    """Compare finished runs, method by method over their seeds, as `drcli train` and `drcli report` do.

    Args:
        runs: folders with runs at or below them, or runs that were read.
        reference: label that differences are to; None: joint training.
        columns: keys of the columns of the table; None: those that fit into a terminal.

    Raises:
        UsageError: a folder holds no run, or none has the label `reference`.
        DataError: a folder is not there, or a file of a run is damaged.
    """
    keys = arguments.column_keys(columns)
    given = [runs] if isinstance(runs, str | Path) else list(runs)
    folders = [Path(one) for one in given if not isinstance(one, RunRecord)]
    read = [one for one in given if isinstance(one, RunRecord)]
    return _compared([*read, *(collect(folders) if folders else [])], reference, keys)


def _compared(runs: Sequence[RunRecord], reference: str | None, columns: tuple[str, ...] | None) -> Comparison:
    groups = by_recipe(finished(runs)).values()
    rows = [row for group in groups for row in compare_runs(group, reference)]
    return Comparison(tuple(runs), tuple(rows), reference, columns or NARROW)


@_leaving_torch
def diagnose(
    checkpoint: Place, overrides: Overrides = (), *, figure: Place | None = None, device: str = "auto"
) -> Report:
    """Report how over-trained each modality is, as `drcli diagnose` does; nothing is changed.

    Args:
        checkpoint: a run directory, a checkpoint.pt, or a FEATURES.npz.
        overrides: lambda, restarts and other settings of the diagnosis, or dataset.root.
        figure: picture to draw (.png, .svg, .pdf).
        device: auto, cpu or cuda.

    Raises:
        DrcliError: bad usage, a damaged file, or missing data.
    """
    return diagnosing.run(Path(checkpoint), arguments.texts(overrides), device, arguments.path(figure))


@_leaving_torch
def evaluate(  # noqa: PLR0913 - one argument for each option
    checkpoint: Place,
    overrides: Overrides = (),
    *,
    split: str = "test",
    subsets: str | Iterable[str] | None = None,
    missing: Series | None = None,
    noise: Series | None = None,
    absent: str = "zero",
    draws: int = 3,
    device: str = "auto",
) -> Evaluated:
    """Score a checkpoint, and its frozen encoders by linear probes, as `drcli eval` does.

    Args:
        checkpoint: a run directory, or a checkpoint.pt or last.pt.
        overrides: dataset.root, where the data was moved.
        split: train, val or test.
        subsets: "all", or sets of modalities such as "audio+visual", with which alone it is scored too.
        missing: shares of the samples that lack a modality, {"audio": 0.3}.
        noise: signal-to-noise ratios in dB, {"audio": [20, 10]}.
        absent: what stands in the place of an absent modality's features: zero or mean.
        draws: draws of the noise, and of the samples that lack a modality.
        device: auto, cpu or cuda.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or missing data.
    """
    asked = _asked(subsets, missing, noise, absent, draws)
    place = Path(checkpoint)
    if evaluating.asks_for_many(place, asked):
        raise UsageError(f"{place}: holds several runs; drcli.evaluate_runs scores them, drcli.evaluate one")
    return evaluating.evaluate_one(place, arguments.texts(overrides), split, device, asked)


@_leaving_torch
def evaluate_runs(  # noqa: PLR0913 - one argument for each option
    folder: Place,
    overrides: Overrides = (),
    *,
    split: str = "test",
    subsets: str | Iterable[str] | None = None,
    missing: Series | None = None,
    noise: Series | None = None,
    absent: str = "zero",
    draws: int = 3,
    device: str = "auto",
    progress: bool = True,
) -> EvaluatedRuns:
    """Score every finished run below a folder without modalities and under noise, as `drcli eval` does.

    Args:
        folder: with runs below it.
        overrides: as for `evaluate`.
        split: as for `evaluate`.
        subsets: as for `evaluate`.
        missing: as for `evaluate`.
        noise: as for `evaluate`.
        absent: as for `evaluate`.
        draws: as for `evaluate`.
        device: as for `evaluate`.
        progress: whether to name each run before it is scored.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or missing data.
    """
    asked = _asked(subsets, missing, noise, absent, draws)
    if asked.wanted().is_empty:
        raise UsageError("drcli.evaluate_runs: no condition; give subsets, missing or noise")
    tell = functools.partial(print, file=sys.stderr if progress else _Nowhere())
    return evaluating.evaluate_grid(Path(folder), arguments.texts(overrides), split, device, asked, tell)


class _Nowhere:
    """A stream that drops what is written to it."""

    def write(self, text: str) -> None:
        """Drop it."""


def _asked(
    subsets: str | Iterable[str] | None, missing: Series | None, noise: Series | None, absent: str, draws: int
) -> Asked:
    arguments.at_least(1, draws=draws)
    return Asked(arguments.listed(subsets), arguments.series(missing), arguments.series(noise), absent, draws)


def _names_of_this_process() -> bool:
    """Whether names are registered here that other processes would not know."""
    return any(registry.has_own for registry in (METHODS, BACKBONES, FUSIONS, DATASETS))
