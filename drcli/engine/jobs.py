"""Several runs at once on this machine: each trains in a process of its own, with its share of the cores.

A process trains one run after another, as the grid in one process does. Runs that others start from come
first. A run whose process is lost has failed, and can be resumed; another process takes its place.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NoReturn

import torch

from drcli.data.prepared import PreparedDataset
from drcli.engine.cores import Sharing
from drcli.engine.distributed import RESUMED
from drcli.engine.grid import GridResult, check_folders, is_stored, stored_run
from drcli.engine.processes import cause_of, end, end_with_parent, main_module, unheard_interrupts
from drcli.engine.run import execute, failure_of
from drcli.errors import RunError
from drcli.runs.planned import PlannedRun, teachers_of
from drcli.runs.records import Failure
from drcli.watch.events import Event, Listener, Listeners, RowsDone, RunFailed

END_WITHIN = 10.0
"""Seconds in which a process that is ended may still write down its last finished epoch."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""What libraries read when they are loaded: torch is told again, numpy's are not."""


@dataclass(frozen=True)
class Task:
    """What every process is given, whatever run it trains.

    Attributes:
        dataset: the prepared dataset.
        device: where it trains.
        threads: of torch.
        on_worker: receives all events where a run trains; copied to each process.
        fresh: start runs over.
        asked: threads that the user has asked for, with which runs that were begun before go on, too.
    """

    dataset: PreparedDataset
    device: torch.device
    threads: int
    on_worker: Listener
    fresh: bool = False
    asked: int | None = None


@dataclass(frozen=True)
class Ended:
    """What a process says of a run that is over: why it failed, if it did."""

    failure: Failure | None


def run_jobs(
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    *,
    sharing: Sharing,
    device: torch.device,
    listener: Listener,
    on_worker: Listener | None = None,
    fresh: bool = False,
    imports_main: bool = True,
) -> GridResult:
    """Execute runs, several at once; result and failures are those of `run_grid`.

    Leaving early, by Ctrl-C or an error, ends all processes; every finished epoch is on disk.

    Args:
        runs: what to train; a run starts once those whose encoders it needs are over.
        dataset: the prepared dataset.
        sharing: how many at once, and with how many threads.
        device: cpu or cuda; of several GPUs the processes use one after the other.
        listener: receives all events here, but no `RowsDone`.
        on_worker: receives all events too, where a run trains.
        fresh: start over, whatever the folders hold.
        imports_main: see `drcli.engine.processes.main_module`.

    Raises:
        RecipeError: another recipe was trained in one of the folders.
        DataError: other data was used in one of the folders.
    """
    each = {run.folder: run for run in runs}
    if not fresh:
        check_folders(each.values(), dataset)
    stored = [] if fresh else [run for run in each.values() if is_stored(run)]
    told = _Told(listener, alone=len(each) == 1)
    for run in stored:  # nothing is trained
        told.end(run, attempt(run, Task(dataset, device, 1, Listener()), listener))
    waiting = Waiting([run for run in each.values() if run not in stored])
    task = Task(dataset, device, sharing.threads, on_worker or Listener(), fresh, sharing.asked)
    crew = Crew(task, imports_main=imports_main)
    try:
        crew.train(waiting, min(sharing.jobs, len(waiting.runs)), told)
    finally:
        crew.end()
    failures = [told.over[run.folder] for run in runs]
    done = [stored_run(run) for run in runs if told.over[run.folder] is None]
    return GridResult(done, [failure for failure in failures if failure is not None])


def attempt(run: PlannedRun, task: Task, listener: Listener) -> Failure | None:
    """Execute a run in this process; return what ended it, if it failed."""
    try:
        execute(run, task.dataset, device=task.device, listener=listener, fresh=task.fresh, threads=task.asked)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever ends a run is its failure
        return failure_of(run, error)
    return None


class _Told:
    """Tells of runs that are over, and keeps why they failed, by folder; None for a finished one."""

    def __init__(self, listener: Listener, *, alone: bool) -> None:
        self.listener = listener
        self.alone = alone
        self.over: dict[Path, Failure | None] = {}

    def end(self, run: PlannedRun, failure: Failure | None) -> None:
        """Note that a run is over."""
        self.over[run.folder] = failure
        if failure is not None and not self.alone:  # of one that is alone the command says so
            self.listener.on(RunFailed(run, failure))


class Waiting:
    """Runs that wait for a process, those that others start from first, else in order.

    Args:
        runs: what is to be trained.
    """

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        needed = teachers_of(runs)
        self.runs = sorted(runs, key=lambda run: run.folder not in needed)
        self._open = {run.folder for run in runs}

    def take(self) -> PlannedRun | None:
        """Return a run that can start now, and take it out; None while all that are left wait for others."""
        for run in self.runs:
            if self._open.isdisjoint(run.teachers.values()):
                self.runs.remove(run)
                return run
        return None

    def end(self, run: PlannedRun) -> None:
        """Note that a run is over: those that wait for it can start, and see themselves whether it has finished."""
        self._open.discard(run.folder)


@dataclass
class Worker:
    """A process, the pipe to it, and the run that it trains at present."""

    process: SpawnProcess
    pipe: Connection
    run: PlannedRun | None = None

    def hear(self) -> Event | Ended:
        """Return what the process says next; if it is gone, that its run has failed."""
        try:
            said: Event | Ended = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Ended(self._lost())
        return said

    def _lost(self) -> Failure | None:
        if self.run is None:
            return None
        why = RunError(
            f"{self.run.folder}: the process that trained this run {cause_of(self.process.exitcode)}; {RESUMED}"
        )
        return failure_of(self.run, why)


class Crew:
    """The processes of a grid.

    Args:
        task: what they are given.
        imports_main: see `drcli.engine.processes.main_module`.
    """

    def __init__(self, task: Task, *, imports_main: bool = True) -> None:
        self.task = task
        self.imports_main = imports_main
        self.workers: list[Worker] = []
        self.started = 0

    def train(self, waiting: Waiting, jobs: int, told: _Told) -> None:
        """Train all runs that wait, so many at once."""
        while True:
            self._hand_out(waiting, jobs)
            busy = {worker.pipe: worker for worker in self.workers if worker.run is not None}
            if not busy:
                return
            for pipe in wait(list(busy)):
                self._hear(busy[pipe], waiting, told)  # type: ignore[index]

    def _hand_out(self, waiting: Waiting, jobs: int) -> None:
        """Give runs to processes that have none; as many are started as have something to do."""
        idle = [worker for worker in self.workers if worker.run is None]
        while (idle or len(self.workers) < jobs) and (run := waiting.take()) is not None:
            worker = idle.pop() if idle else self._start()
            worker.run = run
            with suppress(OSError):  # it is gone, which `hear` finds
                worker.pipe.send(run)

    def _hear(self, worker: Worker, waiting: Waiting, told: _Told) -> None:
        said = worker.hear()
        if not isinstance(said, Ended):
            told.listener.on(said)
        elif worker.run is not None:
            waiting.end(worker.run)
            told.end(worker.run, said.failure)
            worker.run = None
            if worker.process.exitcode is not None:
                self.workers.remove(worker)

    def _start(self) -> Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        task = Task(**{**vars(self.task), "device": device_of(self.started, self.task.device)})
        process = context.Process(target=work, args=(task, there))
        threads = dict.fromkeys(THREADS, str(task.threads))
        with unheard_interrupts(), _environment(threads), main_module(imported=self.imports_main):
            process.start()
        there.close()  # so that the end of the process is the end of the pipe
        self.started += 1
        self.workers.append(Worker(process, here))
        return self.workers[-1]

    def end(self) -> None:
        """End all processes."""
        end([worker.process for worker in self.workers], END_WITHIN)
        for worker in self.workers:
            worker.pipe.close()


def device_of(number: int, device: torch.device) -> torch.device:
    """Return where a process trains, by its number: of several GPUs each has its turn."""
    there = torch.cuda.device_count() if device.type == "cuda" else 0
    return torch.device("cuda", number % there) if there > 1 else device


@contextmanager
def _environment(changed: dict[str, str]) -> Iterator[None]:
    """Change environment variables within the body."""
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def work(task: Task, pipe: Connection) -> None:
    """Train the runs that come through the pipe, and tell through it what happens, until this process is ended."""
    end_with_parent()
    signal.signal(signal.SIGTERM, _stop)
    with suppress(KeyboardInterrupt, EOFError):
        torch.set_num_threads(task.threads)
        if task.device.index is not None:
            torch.cuda.set_device(task.device)
        forwarder = Forwarder(pipe.send)
        task.on_worker.tells(forwarder)
        listener = Listeners(task.on_worker, forwarder)
        while True:
            pipe.send(Ended(attempt(pipe.recv(), task, listener)))
    task.on_worker.close()


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class Forwarder(Listener):
    """Sends the events of runs to the process that shows them; batches come too often for that."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self.send = send

    def on(self, event: Event) -> None:
        """Send an event."""
        if not isinstance(event, RowsDone):
            self.send(event)
