"""`drcli eval`: the scores of a checkpoint on a split, and without modalities or under noise those of many runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.table import Table

from drcli.commands.conditions import Asked, check_names, is_grid, runs_below
from drcli.data.format import SPLITS
from drcli.engine.assemble import Restored, restore
from drcli.engine.conditions import Wanted, measure
from drcli.engine.cores import looking_at
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.evaluate import evaluate_split, num_parameters
from drcli.errors import DataError, UsageError
from drcli.recipe.source import parse_overrides, split_root
from drcli.report.conditions import Seed, condition_tables
from drcli.report.render import rich_table, titled
from drcli.runs.conditions import Conditions
from drcli.runs.directory import RunDirectory, checkpoint_at
from drcli.runs.evaluated import Evaluated, EvaluatedRun, EvaluatedRuns, Unfinished
from drcli.runs.measures import MEASURES, Cost, Measure
from drcli.runs.wording import ABSENT, Selected, how_selected, mean_and_spread

NOTHING = Asked()
UNFINISHED = "the run is not finished: {epochs_done} of {epochs} epochs"


def evaluate(
    checkpoint: Path,
    overrides: Sequence[str],
    split: str,
    device: str,
    asked: Asked = NOTHING,
    tell: Callable[[str], None] = lambda _: None,
    threads: int | None = None,
) -> Evaluated | EvaluatedRuns:
    """Return the scores of a checkpoint, or those of the runs below a folder under conditions.

    Args:
        checkpoint: a checkpoint.pt or last.pt, or a run directory; or a folder of runs, see `evaluate_grid`.
        overrides: dataset.root=DIR, where the data was moved.
        split: train, val or test.
        device: auto, cpu or cuda.
        asked: subsets, missing samples and noise.
        tell: is told of each of several runs before it is scored.
        threads: of torch; None: those that a run was begun with.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or missing data.
    """
    if asks_for_many(checkpoint, asked):
        return evaluate_grid(checkpoint, overrides, split, device, asked, tell, threads)
    return evaluate_one(checkpoint, overrides, split, device, asked, threads)


def evaluate_one(
    checkpoint: Path,
    overrides: Sequence[str],
    split: str,
    device: str,
    asked: Asked = NOTHING,
    threads: int | None = None,
) -> Evaluated:
    """Return the scores of a checkpoint, and of its frozen encoders by linear probes.

    What is found without modalities and under noise on the test split is kept in the run directory, where that is
    what `checkpoint` is.

    Args:
        checkpoint: a checkpoint.pt or last.pt, or a run directory.
        overrides: as for `evaluate`.
        split: as for `evaluate`.
        device: as for `evaluate`.
        asked: subsets, missing samples and noise.
        threads: as for `evaluate`.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or missing data.
    """
    wanted, root = asked.wanted(), _checked(checkpoint, overrides, split)
    where = resolve_device(device)
    with looking_at(checkpoint, threads, where):
        restored = _restored(checkpoint, root, where)
        check_names(wanted, restored.assembly.modalities)
        scores = _scored(checkpoint_at(checkpoint), restored, split)
        return scores.model_copy(update={"conditions": _measured(restored, split, wanted, checkpoint)})


def _scored(checkpoint: Path, restored: Restored, split: str) -> Evaluated:
    """Return the scores of a checkpoint that is read, as it is, and what its run took."""
    assembly = restored.assembly
    left = _unfinished(checkpoint)
    found = evaluate_split(assembly, split)
    return Evaluated(
        checkpoint=str(checkpoint),
        split=split,
        epoch=restored.epoch,
        selected_epoch=restored.selected_epoch,
        unfinished=left,
        selection=assembly.recipe.selection,
        monitor=assembly.recipe.monitor,
        **found.outputs.scores().to_dict(),
        unimodal=found.probes,
        fused_probe=found.fused_probe,
        measures=found.measures(assembly.dataset.info.contents),
        cost=_cost(checkpoint, num_parameters(assembly)),
    )


def evaluate_grid(
    folder: Path,
    overrides: Sequence[str],
    split: str,
    device: str,
    asked: Asked,
    tell: Callable[[str], None],
    threads: int | None = None,
) -> EvaluatedRuns:
    """Return scores without modalities and under noise of every finished run below a folder, and keep them there.

    Args:
        folder: with runs below it.
        overrides: as for `evaluate`.
        split: as for `evaluate`.
        device: as for `evaluate`.
        asked: subsets, missing samples and noise.
        tell: as for `evaluate`.
        threads: as for `evaluate`.
    """
    wanted, root = asked.wanted(), _checked(folder, overrides, split)
    runs, where = list[EvaluatedRun](), resolve_device(device)
    below = runs_below(folder, wanted)
    for run in below:
        tell(f"[{len(runs) + 1}/{len(below)}] {run.folder}")
        with looking_at(run.folder, threads, where):
            found = _measured(_restored(run.folder, root, where), split, wanted.of(run.modalities), run.folder)
        clean = {run.task.first.key: run.score} if split == "test" else {}
        runs.append(
            EvaluatedRun(
                run=str(run.folder),
                recipe=run.recipe_name,
                name=run.name,
                seed=run.seed,
                **clean,
                conditions=found,
            )
        )
    return EvaluatedRuns(split=split, runs=runs)


def asks_for_many(path: Path, asked: Asked) -> bool:
    """Whether runs below a folder are meant: it is none, and a condition is asked for."""
    return is_grid(path) and not asked.wanted().is_empty


def _checked(checkpoint: Path, overrides: Sequence[str], split: str) -> Path | None:
    """Refuse what cannot be evaluated, and return the folder of the data where it is given."""
    if checkpoint.suffix == ".npz":
        raise UsageError(f"{checkpoint}: eval scores a checkpoint.pt or last.pt; `drcli diagnose` takes features")
    if split not in SPLITS:
        raise UsageError(f"--split {split}: must be one of {', '.join(SPLITS)}")
    root, unknown = split_root(parse_overrides(overrides))
    if unknown:
        raise UsageError(f"override {unknown[0].path}: eval takes only dataset.root=DIR; the rest is the checkpoint's")
    return root


def _restored(checkpoint: Path, root: Path | None, device: torch.device) -> Restored:
    restored = restore(checkpoint_at(checkpoint), device, root=root)
    set_determinism(restored.assembly.recipe.training.deterministic)
    return restored


def _measured(restored: Restored, split: str, wanted: Wanted, folder: Path) -> Conditions | None:
    """Return scores under conditions; those of the test split are kept in the run directory, if it is one."""
    possible = wanted.of(restored.assembly.modalities)
    if possible.is_empty:
        return None
    found = measure(restored.assembly, split, restored.epoch, possible)
    files = RunDirectory(folder)
    if split == "test" and folder.is_dir():
        files.write_conditions(found.over(files.conditions()))
    return found


def _unfinished(checkpoint: Path) -> Unfinished | None:
    """Return how far a checkpoint's run is; None of a run that is finished.

    Of a checkpoint that lies elsewhere nothing is known, nor of one whose run cannot be read.
    """
    directory = RunDirectory(checkpoint.parent)
    with suppress(DataError):
        if directory.exists and directory.summary() is None:
            done = directory.count_epochs()
            return Unfinished(epochs_done=done, epochs=directory.recipe().epochs or done)
    return None


def _cost(checkpoint: Path, parameters: int) -> Cost:
    """Return what the run of a checkpoint took, as it was measured then, so that a command repeats its output.

    Of a checkpoint that lies elsewhere, or in a run that is not finished, the parameters alone are known.
    """
    directory = RunDirectory(checkpoint.parent)
    with suppress(DataError):  # of a damaged summary: the checkpoint is what is scored
        summary = directory.summary() if directory.exists else None
        if summary is not None and summary.cost is not None and summary.cost.parameters == parameters:
            return summary.cost
    return Cost(parameters=parameters)


def to_json(result: Evaluated | EvaluatedRuns) -> dict[str, Any]:
    """Return the object of `drcli eval --json`."""
    return result.to_dict()


def table(result: Evaluated | EvaluatedRuns) -> Group:
    """Return the scores as tables."""
    if isinstance(result, EvaluatedRuns):
        return Group(*_tables(_seeds(result.runs), with_seeds=True))
    title = f"{result.checkpoint} ({_which_epoch(result)}): split {result.split}"
    out = Table()
    out.add_column("what")
    out.add_column("value", justify="right")
    task = result.task
    for kind, score in ((task.first, result.first), (task.second, result.second)):
        out.add_row(kind.name, ABSENT if score is None else kind.text(score))
    out.add_row("samples", str(result.n))
    for m, found in result.unimodal.items():
        out.add_row(f"{m} linear probe", task.first.text(found.score))
    if result.fused is not None:
        out.add_row("fused linear probe", task.first.text(result.fused))
    for one, value in _measures_of(result):
        out.add_row(one.title, mean_and_spread(value, scale=one.scale, digits=one.digits))
    under = [] if result.conditions is None else [Seed(result.conditions, result.first)]
    return Group(titled(title, out), *_tables({"this run": under} if under else {}, with_seeds=False))


def _seeds(runs: Sequence[EvaluatedRun]) -> dict[str, list[Seed]]:
    """Return what was found by method; of runs of several recipes, names have that of the recipe."""
    several, methods = len({run.recipe for run in runs}) > 1, dict[str, list[Seed]]()
    for run in runs:
        if run.conditions is not None:
            name = f"{run.recipe} {run.name}" if several else run.name
            methods.setdefault(name, []).append(Seed(run.conditions, run.first))
    return methods


def _tables(methods: Mapping[str, Sequence[Seed]], *, with_seeds: bool) -> list[Group]:
    """Return the tables of scores under conditions."""
    return [rich_table(found) for found in condition_tables(methods, with_seeds=with_seeds)]


def _measures_of(result: Evaluated) -> Iterator[tuple[Measure, float]]:
    """Yield what was measured beside accuracy and probes."""
    for one in MEASURES:
        value = one.value(result)
        if value is not None:
            yield one, value


def _which_epoch(result: Evaluated) -> str:
    epoch, selected, left = result.epoch, result.selected_epoch, result.unfinished
    how = how_selected([Selected(result.selection, result.monitor)])
    which = f"epoch {epoch}, {how}" if epoch == selected else f"epoch {epoch}, the last one; epoch {selected} was {how}"
    return which if left is None else f"{which}; {UNFINISHED.format(**left.to_dict())}"
