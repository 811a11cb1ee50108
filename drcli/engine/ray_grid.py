"""Several runs as Ray tasks: on the cores and GPUs of this machine, or of a cluster's.

Ray places the runs, starts a run once the unimodal runs it needs are over, and repeats one whose worker
is lost; the repeated run resumes from its `last.pt`. Every node therefore needs the working directory of
the command, the run directories and the prepared dataset under the same paths: a shared file system. The
progress is read from the runs' own logs there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from drcli.data.prepared import PreparedDataset
from drcli.engine.device import resolve_device
from drcli.engine.distributed import RESUMED
from drcli.engine.grid import GridResult, check_folders, stored_run
from drcli.engine.ray_cluster import LOOK_EVERY, RETRIES, Origin, connection, end_tasks, import_ray, why_lost
from drcli.engine.run import execute, failure_of
from drcli.errors import DataError, RunError, UsageError
from drcli.files import locked, make_folder
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord, Failure, Summary
from drcli.watch.events import EpochFinished, Event, Listener, Listeners, Note, RunFailed, RunFinished, RunStarted


@dataclass(frozen=True)
class RayOptions:
    """What the command line asks for.

    Attributes:
        address: of a running cluster; None takes that of RAY_ADDRESS, or starts Ray on this machine.
        cpus_per_run: cores that a run is given, and its torch threads.
        gpus_per_run: share of a GPU that a run is given; None: a whole one where there is one.
        device: auto, cpu or cuda, where the run trains.
    """

    address: str | None = None
    cpus_per_run: int = 1
    gpus_per_run: float | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Share:
    """What each run is given: cores, and a share of a GPU in [0, 1]."""

    cpus: int
    gpus: float

    @property
    def device(self) -> torch.device:
        """Where the run trains; Ray shows a worker the GPUs that it may use, and no other."""
        return torch.device("cuda" if self.gpus > 0 else "cpu")


@dataclass(frozen=True)
class Outcome:
    """How a run has ended: with its summary or with its failure.

    Failures travel as values: errors raised in a task would come back as Ray's own with a traceback inside.

    Attributes:
        summary: as `execute` returns it, or None.
        failure: why there is none.
        stored: whether the run was finished before.
        notes: what its worker said on the way.
    """

    summary: Summary | None = None
    failure: Failure | None = None
    stored: bool = False
    notes: tuple[str, ...] = ()


class Noted(Listener):
    """Keeps on the worker what the command receives at the end of the run."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stored = False

    def on(self, event: Event) -> None:
        """Keep notes, where a run was resumed, here or by another worker, and whether it was finished before."""
        match event:
            case RunStarted(run, first_epoch) if first_epoch:
                self.notes.append(f"{run.recipe.name}: {run.name} seed {run.seed}: resumed at epoch {first_epoch}")
            case RunFinished(stored=stored):
                self.stored = stored
            case Note(text):
                self.notes.append(text)
            case _:
                pass


@contextmanager
def connected(options: RayOptions) -> Iterator[Share]:
    """Connect to a cluster, or start Ray on this machine until the body ends; yields what a run is given.

    A connection that this process has already is used, and kept.

    Raises:
        UsageError: no cluster answers, or it cannot give a run what it needs.
    """
    with connection(options.address) as nodes:
        yield share(options, nodes)


def share(options: RayOptions, nodes: Sequence[Mapping[str, float]]) -> Share:
    """Return what a run is given.

    Args:
        options: what is requested.
        nodes: "CPU" and "GPU" of each node, a key missing where it has none.

    Raises:
        UsageError: device and share contradict each other, or no node has so much: Ray would wait for ever.
    """
    if options.device != "cuda":
        resolve_device(options.device)  # refuses unknown names; GPUs are looked for on the nodes, not here
    gpus = options.gpus_per_run
    if gpus is None:
        there = any(node.get("GPU", 0) > 0 for node in nodes)
        gpus = float(options.device == "cuda" or (options.device == "auto" and there))
    if (gpus > 0, options.device) in {(True, "cpu"), (False, "cuda")}:
        raise UsageError(f"--gpus-per-run {gpus:g}: contradicts --device {options.device}; leave one of them out")
    if not any(node.get("CPU", 0) >= options.cpus_per_run and node.get("GPU", 0) >= gpus for node in nodes):
        have = "; ".join(sorted({f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes}))
        raise UsageError(
            f"a run asks for {options.cpus_per_run} CPU and {gpus:g} GPU, no node has both ({have}); "
            "lower --cpus-per-run or --gpus-per-run, or choose --device cpu"
        )
    return Share(options.cpus_per_run, gpus)


def run_ray_grid(
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    *,
    each: Share,
    listener: Listener,
    on_worker: Listener | None = None,
    fresh: bool = False,
) -> GridResult:
    """Execute runs as Ray tasks, many at a time; result and failures are those of `run_grid`.

    Leaving early, by Ctrl-C or an error, ends the workers of this grid; every finished epoch is on disk.

    Args:
        runs: in the order of `plan`: a run comes after those whose encoders it needs.
        dataset: the prepared dataset; the workers open it under the same path.
        each: what each run is given.
        listener: receives events here, when a run has finished epochs or has ended.
        on_worker: receives all events too, where a run trains; copied to each worker.
        fresh: start over, whatever the folders hold. All folders are cleared before the first run, so that a
            worker that takes up a lost one's run finds what that one left.

    Raises:
        RunError: with `fresh`, another process is training in one of the folders.
        RecipeError: another recipe was trained in one of the folders.
        DataError: other data was used in one of the folders.
    """
    ray = import_ray()
    if fresh:
        for run in runs:
            _clear(run.folder)
    else:
        check_folders(runs, dataset)
    logs = Logs(runs)
    pending = _submit(ray, runs, dataset, each, on_worker or Listener())
    try:
        outcomes = _gather(ray, pending, logs, listener, alone=len(runs) == 1)
    finally:
        end_tasks(ray, list(pending))
    return _result(runs, [outcomes[run.folder] for run in runs])


def _clear(folder: Path) -> None:
    make_folder(folder, remedy="choose another folder with --out")
    with locked(folder):
        RunDirectory(folder).clear()


def _submit(
    ray: Any, runs: Sequence[PlannedRun], dataset: PreparedDataset, each: Share, on_worker: Listener
) -> dict[Any, PlannedRun]:
    """Hand every run to Ray and return the runs by the references of their outcomes."""
    origin = Origin.here()
    remote = ray.remote(train_here).options(num_cpus=each.cpus, num_gpus=each.gpus, max_retries=RETRIES)
    tasks: dict[Path, Any] = {}
    for run in runs:
        teachers = [tasks[folder] for folder in run.teachers.values()]
        tasks[run.folder] = remote.remote(run, dataset, each, origin, on_worker, *teachers)
    return {tasks[run.folder]: run for run in runs}


def train_here(
    run: PlannedRun, dataset: PreparedDataset, each: Share, origin: Origin, on_worker: Listener, *teachers: Outcome
) -> Outcome:
    """Execute a run in this process, which is a Ray worker, and return its outcome.

    Args:
        run: what to train, and where.
        dataset: the prepared dataset.
        each: cores and GPU of the run.
        origin: the command that asked for it.
        on_worker: receives the run's events.
        teachers: outcomes of the runs it needs. Ray waits for them; `execute` checks them.
    """
    del teachers
    noted = Noted()
    on_worker.tells(noted)
    try:
        _take_over(origin, each)
        summary = execute(run, dataset, device=each.device, listener=Listeners(noted, on_worker), threads=each.cpus)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever ends a run is its failure
        return Outcome(failure=failure_of(run, error), notes=tuple(noted.notes))
    finally:
        on_worker.close()
    return Outcome(summary, stored=noted.stored, notes=tuple(noted.notes))


def _take_over(origin: Origin, each: Share) -> None:
    origin.take_over()
    torch.set_num_threads(each.cpus)


def _gather(
    ray: Any, pending: dict[Any, PlannedRun], logs: Logs, listener: Listener, *, alone: bool
) -> dict[Path, Outcome]:
    """Wait for all tasks, taking each out of `pending` as it ends; returns the outcomes by run directory."""
    outcomes: dict[Path, Outcome] = {}
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=LOOK_EVERY)
        for run in pending.values():
            if (record := logs.news(run)) is not None:
                listener.on(EpochFinished(run, record))
        for task in ready:
            run = pending.pop(task)
            outcomes[run.folder] = outcome = _outcome(ray, task, run)
            _tell(listener, run, outcome, alone=alone)
    return outcomes


def _outcome(ray: Any, task: Any, run: PlannedRun) -> Outcome:
    """Return what a task returned; a task that Ray has given up is a failure of its run."""
    try:
        outcome: Outcome = ray.get(task)
    except ray.exceptions.RayError as error:
        why = RunError(f"{run.folder}: Ray gave up on this run ({why_lost(ray, error)}); {RESUMED}")
        return Outcome(failure=failure_of(run, why))
    return outcome


def _tell(listener: Listener, run: PlannedRun, outcome: Outcome, *, alone: bool) -> None:
    """Report a run that has ended."""
    for text in outcome.notes:
        listener.on(Note(text))
    if outcome.summary is not None:
        listener.on(RunFinished(run, outcome.summary, outcome.stored))
    elif outcome.failure is not None and not alone:
        listener.on(RunFailed(run, outcome.failure))


def _result(runs: Sequence[PlannedRun], outcomes: Sequence[Outcome]) -> GridResult:
    done = [stored_run(run) for run, outcome in zip(runs, outcomes, strict=True) if outcome.summary is not None]
    return GridResult(done, [outcome.failure for outcome in outcomes if outcome.failure is not None])


class Logs:
    """The logs of runs that other processes write.

    Args:
        runs: whose logs are looked at; what they hold now is not shown.
    """

    def __init__(self, runs: Iterable[PlannedRun]) -> None:
        self._seen: dict[Path, tuple[int, int]] = {}
        for run in runs:
            self.news(run)

    def news(self, run: PlannedRun) -> EpochRecord | None:
        """Return the last epoch of a run's log, or None if nothing was added since the last call."""
        directory = RunDirectory(run.folder)
        state = directory.log_state()
        if state is None or self._seen.get(run.folder) == state:
            return None
        self._seen[run.folder] = state
        try:
            epochs = directory.epochs()
        except DataError:  # caught while another node writes: the next look tells
            return None
        return epochs[-1] if epochs else None
