"""`drcli prepare --engine ray`: the parts of a dataset of clips as Ray tasks, which this process joins at the end.

Every node needs the working directory, the source and the folder of the dataset under the same paths: a shared file
system. The part of a worker that is lost is taken up by another, where that one stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from drcli import terminal
from drcli.commands.prepare import (
    Prepared,
    PrepareRequest,
    job_of,
    parse_share,
    prepare,
    prepare_shard,
    recipe_of,
    shardable,
)
from drcli.data.format import INFO_FILE
from drcli.engine.ray_cluster import LOOK_EVERY, RETRIES, Origin, connection, end_tasks, import_ray, why_lost
from drcli.errors import DrcliError, RunError, UsageError
from drcli.watch.console import stages

if TYPE_CHECKING:
    from data_prep.writing.shards import Shard

STOPPED = "stopped; clips that are done are not decoded again. Repeat the same command to resume"


@dataclass(frozen=True)
class Outcome:
    """How a part has ended: with its error, or without one.

    Errors travel as values: raised in a task, they would come back as Ray's own with a traceback inside.
    """

    error: DrcliError | None = None


def prepare_on_ray(request: PrepareRequest, progress: Console) -> Prepared:
    """Prepare all parts of a dataset as Ray tasks of one core each, and join them.

    Raises:
        DrcliError: bad usage or recipe, a source that is missing or unreadable, no cluster, or a part that failed.
        InterruptedRunError: Ctrl-C or SIGTERM came; the workers were ended.
    """
    recipe, max_bad = recipe_of(request), parse_share(request.max_bad)
    preparer = shardable(recipe)
    if request.fresh or not (recipe.dataset.root / INFO_FILE).is_file():
        job = job_of(recipe, request, max_bad, progress)
        most = preparer.most_shards(job)
        # Ray prints what happens to workers, and puts its own handler on SIGTERM, which `interruptible` replaces.
        with redirect_stdout(sys.stderr), connection(request.address) as nodes, terminal.interruptible(STOPPED):
            count = number_of_parts(job.out, request.workers, most, nodes)
            _run_parts(replace(request, workers=1, engine="local", address=None), count, preparer.name, progress)
    return prepare(replace(request, merge=True), progress)


def number_of_parts(out: Path, asked: int | None, most: int, nodes: Sequence[Mapping[str, float]]) -> int:
    """Return how many parts are made: as many as were begun, as `--workers` says, or as there are cores.

    Args:
        out: folder of the dataset.
        asked: what `--workers` says.
        most: how many there can be.
        nodes: "CPU" of each node, missing where it has none.

    Raises:
        UsageError: parts of another number were begun, or there is no core.
    """
    from data_prep.writing.shards import counts_begun, shards_folder

    cores = sum(int(node.get("CPU", 0)) for node in nodes)
    if not cores:
        raise UsageError("--engine ray: no node of the cluster has a core to decode on; add one that has")
    begun = counts_begun(out)
    count = min(begun) if asked is None and begun else min(asked or cores, most)
    if begun - {count}:
        there = " and of ".join(map(str, sorted(begun)))
        raise UsageError(
            f"{shards_folder(out)}: has parts of {there}, where {count} are to be made; go on with those by --workers "
            f"{min(begun)}, or delete them"
        )
    return count


def _run_parts(request: PrepareRequest, count: int, name: str, progress: Console) -> None:
    """Let Ray prepare all parts; the first that fails ends the others.

    Raises:
        DrcliError: of the part that failed, which is named.
    """
    from data_prep.writing.shards import Shard

    ray, origin = import_ray(), Origin.here()
    remote = ray.remote(prepare_here).options(num_cpus=1, max_retries=RETRIES)
    shards = [Shard(index, count) for index in range(1, count + 1)]
    pending = {remote.remote(replace(request, shard=str(shard)), origin): shard for shard in shards}
    display, advance = stages(progress, f"preparing {name} on Ray")
    display.disable = not progress.is_interactive
    try:
        with display:
            while pending:
                advance("parts", count - len(pending), count)
                ready, _ = ray.wait(list(pending), num_returns=1, timeout=LOOK_EVERY)
                for task in ready:
                    _check(ray, task, pending.pop(task))
    finally:
        end_tasks(ray, list(pending))


def prepare_here(request: PrepareRequest, origin: Origin) -> Outcome:
    """Prepare one part in this process, which is a Ray worker."""
    try:
        origin.take_over()
        prepare_shard(request, Console(quiet=True))
    except DrcliError as error:
        return Outcome(error)
    return Outcome()


def _check(ray: Any, task: Any, shard: Shard) -> None:
    """Raise the error that a part has ended with, if it has."""
    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        raise RunError(
            f"part {shard}: Ray gave up on it ({why_lost(ray, error)}); repeat the same command to resume"
        ) from error
    if outcome.error is not None:
        outcome.error.args = (f"part {shard}: {outcome.error}",)
        raise outcome.error
