"""Several runs one after another, and the table over their seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from drcli.data.prepared import PreparedDataset
from drcli.engine.listener import Listener
from drcli.engine.plan import PlannedRun
from drcli.engine.run import execute
from drcli.engine.rundir import RunDirectory
from drcli.errors import CheckpointError, RunError
from drcli.statistics import paired_differences, spread, t_interval
from drcli.world import ALONE, World


@dataclass(frozen=True)
class GridResult:
    """What came of a grid.

    Attributes:
        runs: summaries of the finished runs, in order.
        summary: one row a method over its seeds.
        failed: messages of the runs that failed.
    """

    runs: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    failed: list[str]


def run_grid(
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    *,
    device: torch.device,
    listener: Listener,
    fresh: bool = False,
    world: World = ALONE,
) -> GridResult:
    """Execute runs one after another; a run that fails does not stop the others.

    Several processes call it with the same runs, and each returns the result.

    Raises:
        DrcliError: something that concerns every run, or the only one.
    """
    if not fresh:
        world.on_main(lambda: check_folders(runs, dataset))
    done: dict[str, list[dict[str, Any]]] = {run.name: [] for run in runs}
    failed = []
    for run in runs:
        try:
            done[run.name].append(execute(run, dataset, device=device, listener=listener, fresh=fresh, world=world))
        except (RunError, CheckpointError) as error:
            if isinstance(error, CheckpointError) and len(runs) == 1:
                raise
            failed.append(str(error))
            listener.note(f"failed: {error}")
    return put_together(runs, done, failed)


def check_folders(runs: Iterable[PlannedRun], dataset: PreparedDataset) -> None:
    """Refuse what the folders hold before the first run is trained, not when its turn comes.

    Raises:
        RecipeError: another recipe was trained in one of them.
        DataError: other data was used in one of them, or it is damaged.
    """
    for run in runs:
        RunDirectory(run.folder).check(run.recipe, dataset.info.fingerprint)


def put_together(
    runs: Sequence[PlannedRun], done: Mapping[str, Sequence[dict[str, Any]]], failed: list[str]
) -> GridResult:
    """Return the result of a grid.

    Args:
        runs: what was planned.
        done: summaries of the finished runs by name.
        failed: messages of the others.
    """
    joint = next((run.name for run in runs if run.recipe.methods[run.recipe.method].method == "joint"), None)
    summaries = [summary for of_name in done.values() for summary in of_name]
    return GridResult(summaries, summarise(done, joint), failed)


def summarise(done: Mapping[str, Sequence[Mapping[str, Any]]], joint: str | None) -> list[dict[str, Any]]:
    """Return one row a method: mean and spread of the test accuracy, and the difference to joint.

    Differences are paired by seed; the interval is Student's t over the seeds that both have.

    Args:
        done: summaries of the finished runs by name.
        joint: the name that is joint training, if it is among them.
    """
    reference = _by_seed(done[joint]) if joint is not None else {}
    rows = []
    for name, summaries in done.items():
        if not summaries:
            continue
        accuracies = _by_seed(summaries)
        differences = paired_differences(accuracies, reference) if name != joint else []
        rows.append(
            {
                "method": name,
                "n": len(accuracies),
                "accuracy_mean": fmean(accuracies.values()),
                "accuracy_std": spread(list(accuracies.values())),
                "difference_to_joint": fmean(differences) if differences else None,
                "difference_ci95": t_interval(differences),
            }
        )
    return rows


def _by_seed(summaries: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    return {summary["seed"]: summary["test"]["accuracy"] for summary in summaries}
