"""`drcli tune`: the same number of trials for every method, chosen on validation; a recipe of winners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from drcli.amounts import counted
from drcli.commands.engines import EngineOptions, select_engine
from drcli.commands.train import check_weights, open_or_prepare
from drcli.engine.cores import share_out
from drcli.engine.device import resolve_device
from drcli.engine.distributed import launched
from drcli.errors import UsageError
from drcli.files import make_folder, write_atomic, write_json
from drcli.recipe.load import load_source
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.recipe.text import spelled
from drcli.registry import known
from drcli.report.render import render, rich_table, unbroken
from drcli.runs.planned import plan, select_labels, select_seeds
from drcli.tuning import result
from drcli.tuning.search import SAMPLERS, import_optuna
from drcli.tuning.study import Study, Trial, TrialRecord

EVERYTHING = 1_000_000
"""Trials that are given to an engine together where it has a queue of its own."""

QUEUED = 16
"""The same for each run at once on one machine: processes start anew with each such part of a study."""


@dataclass(frozen=True)
class TuneRequest:
    """What the command line asks for; see `drcli tune --help`."""

    recipe: str
    overrides: Sequence[str]
    method: str | None
    trials: int
    seeds: str
    sampler: str
    prune: bool
    out: Path
    engine: EngineOptions


@dataclass(frozen=True)
class TuneResult:
    """What came out.

    Attributes:
        study: the study.
        found: the methods whose trials are all over.
        recipe: file of the recipe with the winners.
        pictures: files of the picture.
    """

    study: Study
    found: Sequence[result.Tuned]
    recipe: Path
    pictures: Sequence[Path]


def tune(request: TuneRequest, progress: Console) -> TuneResult:
    """Run what is left of a study, and write what came out of it.

    Raises:
        DrcliError: bad usage or recipe, missing data, a folder that holds another study, or an interrupt.
    """
    if launched() is not None:
        raise UsageError("drcli tune: torchrun trains one run on several devices; start a study without it")
    engine = select_engine(request.engine)
    study, data = _study(request)
    for label in study.labels:
        check_weights(plan(study.recipe, [label], study.seeds, study.folder / "runs" / label))
    dataset = open_or_prepare(study.recipe, progress)
    at_once = together(request.engine)
    heard = progress if progress.is_terminal or at_once > 1 else Console(quiet=True)

    def told(trial: Trial, record: TrialRecord) -> None:
        progress.print(Text(line(trial, record, study.trials)), soft_wrap=True)

    study.run(dataset.info.fingerprint, lambda runs: engine(runs, dataset, heard), told, at_once)
    return _written(study, data)


def together(options: EngineOptions) -> int:
    """Return how many trials an engine is given together: more than it runs at once, where it runs several."""
    if options.name != "local":
        return EVERYTHING
    jobs = share_out(options.jobs, resolve_device(options.device), EVERYTHING, options.threads).jobs
    return 1 if jobs == 1 else jobs * QUEUED


def _study(request: TuneRequest) -> tuple[Study, dict[str, Any]]:
    """Return the study, and the recipe's plain data; refuses what no data is needed to refuse."""
    import_optuna()
    if request.sampler not in SAMPLERS:
        raise UsageError(f"--sampler {request.sampler}: no such sampler; {known(request.sampler, SAMPLERS)}")
    recipe, source = load_source(
        find_recipe(request.recipe), request.overrides, lambda found: select_labels(found, request.method)
    )
    seeds = select_seeds(recipe, request.seeds, option="--tune-seeds")
    _check(recipe, seeds)
    if request.prune and recipe.task == "regression":
        raise UsageError("--prune compares accuracies, and the recipe has task: regression; leave it out")
    labels = select_labels(recipe, request.method)
    sampler = next(name for name in SAMPLERS if name == request.sampler)
    folder = request.out / "tuned" / recipe.name
    return Study(folder, recipe, labels, request.trials, seeds, sampler, request.prune), source.data


def _check(recipe: Recipe, seeds: Sequence[int]) -> None:
    """Refuse what would let the final evaluation into the choice.

    Raises:
        UsageError: a trial would have a seed of the final runs, or look at the test split.
    """
    shared = sorted(set(seeds) & set(recipe.seeds))
    if shared:
        raise UsageError(
            f"--tune-seeds {','.join(map(str, seeds))}: {shared[0]} is one of the recipe's seeds, with which the final "
            "runs are trained; choose others, such as 100,101"
        )
    for key, value in (("selection", recipe.selection), ("monitor", recipe.monitor)):
        if value == "test":
            raise UsageError(
                f"{key}: test looks at the test split, which a trial must not open; add "
                f"{key}={'val' if key == 'selection' else 'none'}"
            )


def line(trial: Trial, record: TrialRecord, trials: int) -> str:
    """Return a trial that is over in one line."""
    values = ", ".join(f"{key}={spelled(value)}" for key, value in record.values.items()) or "the recipe's own values"
    found = (
        f"failed: {(record.failure or '').splitlines()[0]}"
        if record.score is None
        else f"validation {record.kind.name} {record.kind.text(record.score)}"
    )
    found += "" if record.stopped is None else f", stopped after {counted(record.stopped, 'epoch')}"
    return f"[{trial.number + 1}/{trials}] {trial.label}: {found} ({values})"


def _written(study: Study, data: dict[str, Any]) -> TuneResult:
    """Write recipe, tables and picture of what was found."""
    found = result.results(study)
    path = study.folder.with_name(f"{study.recipe.name}.yaml")
    make_folder(study.folder, remedy="choose another folder with --out")
    write_atomic(path, result.tuned_recipe(data, found, study.recipe.name).encode())
    text = "\n".join(render(table, "markdown") for table in result.tables(study, found))
    write_atomic(study.folder / "tables.md", text.encode(), follow=False)
    write_json(study.folder / "result.json", result.to_json(study, found), follow=False)
    return TuneResult(study, found, path, result.write_picture(study.folder, found))


def to_json(done: TuneResult) -> dict[str, Any]:
    """Return the object of `drcli tune --json`."""
    places = {"tuned": str(done.recipe), "study": str(done.study.folder), "pictures": list(map(str, done.pictures))}
    return {**result.to_json(done.study, done.found), **places}


def failures(done: TuneResult) -> list[str]:
    """Return what ended the search of methods, and the methods that nothing was found for: all their trials failed."""
    ended = [f"{label}: {why}" for label, why in done.study.failed.items()]
    bad = [one for one in done.found if one.best.score is None]
    return ended + [
        f"{one.label}: all trials failed ({one.bad} of {one.bad}), and {done.recipe} has the recipe's own values; "
        f"choose others, or other ranges by search. The first: {(one.default.failure or '').splitlines()[0]}"
        for one in bad
    ]


def show(done: TuneResult) -> Group:
    """Return the tables, and where everything was written."""
    written = [f"recipe with the winners: {done.recipe}", f"trials, tables.md and picture: {done.study.folder}"]
    shown = map(rich_table, result.tables(done.study, done.found))
    return Group(*shown, *(unbroken(text, "dim") for text in written))
