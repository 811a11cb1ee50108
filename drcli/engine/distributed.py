"""Several processes for one run: started here, one per device, or by torchrun on one node or more.

Whatever ends a process ends all of them: those started here are watched by the one that started them, which
itself trains nothing; torchrun does the same for its own. On several nodes, all of them need the run
directories and the prepared dataset under the same paths: a shared file system.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from drcli.data.batches import parts, spans
from drcli.data.prepared import PreparedDataset
from drcli.engine.assemble import recipe_model
from drcli.engine.processes import cause_of, end, end_with_parent, main_module, unheard_interrupts
from drcli.errors import DrcliError, PeerError, RecipeError, UsageError
from drcli.names import METHODS
from drcli.runs.planned import PlannedRun
from drcli.world import World

T = TypeVar("T")
Work = Callable[[World, torch.device], T]

TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others: longer than one needs to cluster or to fit probes alone."""

GRACE = 1.0
"""Seconds in which the others may still say why, once a process has failed."""

RESUMED = "every finished epoch is saved; repeat the command to resume"

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def launched() -> World | None:
    """Return this process's place among those that torchrun has started; None if it has not, or only one."""
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return None
    world = World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    return world if world.size > 1 else None


@contextmanager
def joined(world: World, device: torch.device, meeting: str, local_rank: int) -> Iterator[torch.device]:
    """Be one of the processes of torch's default group within the body; yields this process's device.

    Args:
        world: this process's place.
        device: cpu or cuda.
        meeting: where the processes find each other: "env://" or the URL of a file.
        local_rank: number of the process on its node, and of its GPU.
    """
    is_cuda = device.type == "cuda"
    own = torch.device("cuda", local_rank) if is_cuda else device
    if is_cuda:
        torch.cuda.set_device(own)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if is_cuda else "gloo",
        init_method=meeting,
        rank=world.rank,
        world_size=world.size,
        timeout=TIMEOUT,
    )
    yield own
    distributed.destroy_process_group()  # after an error it would wait for processes that never come


def check_devices(count: int, device: torch.device) -> None:
    """Refuse more processes on this machine than it has GPUs.

    Raises:
        UsageError: there are fewer GPUs.
    """
    there = torch.cuda.device_count() if device.type == "cuda" else count
    if count > there:
        raise UsageError(f"{count} processes need one GPU each, here are {there}; use fewer, or add --device cpu")


def check_runs(runs: Sequence[PlannedRun], dataset: PreparedDataset, device: torch.device, size: int) -> None:
    """Refuse runs that several processes cannot train together with the result of one.

    Raises:
        RecipeError: a method cannot, a batch has fewer rows than there are processes, or a model on the CPU
            has batch normalisation.
    """
    seen = set()
    for run in runs:
        check_method(run, size)
        check_batches(run, dataset.info.rows["train"], size)
        model = repr((run.modalities, run.recipe.fusion))
        if device.type == "cpu" and model not in seen:
            seen.add(model)
            check_model(run, dataset)


def check_method(run: PlannedRun, size: int) -> None:
    """Refuse a method that says it cannot, by its `distributed_reason`."""
    reason = METHODS.load(run.method).distributed_reason
    if reason:
        label = run.recipe.method
        raise RecipeError(f"methods.{label}: {run.method} cannot be trained on {size} devices: {reason}; use one")


def check_batches(run: PlannedRun, rows: int, size: int) -> None:
    """Refuse batches, or parts whose gradients are accumulated, that leave a process without a row."""
    training = run.recipe.training
    sizes = {len(part) for part in parts(torch.arange(rows), training.batch_size)}
    least = min(span.stop - span.start for size in sizes for span in spans(size, training.accumulate))
    if least < size:
        raise RecipeError(
            f"training.batch_size = {training.batch_size}: {rows} training rows leave {least} for a step's smallest "
            f"part, fewer than {size} devices; use fewer devices or another batch_size"
            + (", or a smaller training.accumulate" if training.accumulate > 1 else "")
        )


def check_model(run: PlannedRun, dataset: PreparedDataset) -> None:
    """Refuse batch normalisation: its statistics over several processes exist on GPUs only."""
    model = recipe_model(run.recipe, run.modalities, dataset.info.contents)
    places = {f"modalities.{m}.backbone = {run.recipe.modalities[m].backbone}": x for m, x in model.encoders.items()}
    for place, module in {**places, f"fusion.name = {run.recipe.fusion.name}": model.fusion}.items():
        if any(isinstance(layer, BATCH_NORMS) for layer in module.modules()):
            raise RecipeError(
                f"{place}: has batch normalisation, which PyTorch cannot share between processes on the CPU; "
                "use one device, a backbone without it such as vit, or GPUs"
            )


@dataclass(frozen=True)
class Report:
    """How a process has ended.

    Attributes:
        rank: its number.
        result: what the main process's work gave.
        error: an error of the user's.
        trace: the traceback of any other error.
        code: exit code of a process that said nothing; negative: the signal that ended it.
        when: reading of the clock that all processes share.
    """

    rank: int
    result: Any = None
    error: DrcliError | None = None
    trace: str | None = None
    code: int | None = None
    when: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than by finishing its work."""
        return self.error is not None or self.trace is not None or self.code is not None


@dataclass(frozen=True)
class Member:
    """A process and the pipe that it reports through."""

    rank: int
    process: SpawnProcess
    reports: Connection

    def read(self) -> Report:
        """Return its report, or how it died without one."""
        try:
            report: Report = self.reports.recv()
        except EOFError:
            self.process.join()
            return Report(self.rank, code=self.process.exitcode)
        return report


def on_devices(
    size: int, device: torch.device, work: Work[T], threads: int | None = None, *, imports_main: bool = True
) -> T:
    """Do work in several new processes on this machine at once, and return what it gives in the main one.

    Leaving early, by Ctrl-C or an error, ends all of them.

    Args:
        size: how many processes.
        device: cpu or cuda; of GPUs each process has its own.
        work: called in each with its place and device; it and its result can be pickled.
        threads: of torch in each; None: they share those of this process.
        imports_main: see `drcli.engine.processes.main_module`.

    Raises:
        DrcliError: what the work raised, or a process was lost.
    """
    context = multiprocessing.get_context("spawn")
    members: list[Member] = []
    each = threads or max(1, torch.get_num_threads() // size)
    with TemporaryDirectory(prefix="drcli-") as folder, unheard_interrupts() as heard:
        meeting = (Path(folder) / "meeting").as_uri()
        try:
            with main_module(imported=imports_main):
                members += [_start(context, World(rank, size), device, meeting, work, each) for rank in range(size)]
            heard()
            return _outcome(_await(members))  # type: ignore[no-any-return]
        finally:
            _end(members)


def _start(
    context: SpawnContext, world: World, device: torch.device, meeting: str, work: Work[Any], threads: int
) -> Member:
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_member, args=(world, device, meeting, threads, work, there))
    process.start()
    there.close()  # so that the end of the process is the end of the pipe
    return Member(world.rank, process, here)


def _member(
    world: World, device: torch.device, meeting: str, threads: int, work: Work[Any], reports: Connection
) -> None:
    """Work as one of several processes, and report."""
    end_with_parent()
    torch.set_num_threads(threads)
    try:
        with joined(world, device, meeting, world.rank) as own:
            result = work(world, own)
        report = Report(world.rank, result if world.is_main else None)
    except DrcliError as error:
        report = Report(world.rank, error=error, when=time.monotonic())
    except Exception:  # noqa: BLE001 - it is raised again where the user sees it
        report = Report(world.rank, trace=traceback.format_exc(), when=time.monotonic())
    reports.send(report)
    if report.failed:
        sys.stderr.flush()
        os._exit(1)  # not through clean-up, where a process may wait for others


def _await(members: Sequence[Member]) -> list[Report]:
    """Return the reports of all processes, or after a failure those that come soon."""
    pending = {member.reports: member for member in members}
    reports: list[Report] = []
    while pending:
        failed = any(report.failed for report in reports)
        ready = [connection for connection in wait(list(pending), GRACE if failed else None) if connection in pending]
        if not ready:
            break
        reports += [pending.pop(connection).read() for connection in ready if isinstance(connection, Connection)]
    return reports


def _outcome(reports: Sequence[Report]) -> Any:
    """Return the main process's result, or raise what went wrong first.

    When a process is lost the others fail too, since they wait for it; their messages are not the cause.
    """
    failed = sorted((report for report in reports if report.failed), key=lambda report: report.when)
    for report in failed:
        if report.error is not None:
            raise report.error
    for report in failed:
        if report.code is not None:
            raise PeerError(f"process {report.rank} of the run {cause_of(report.code)}; {RESUMED}")
    for report in failed:
        raise RuntimeError(f"process {report.rank} of the run failed\n{report.trace}")
    return next(report.result for report in reports if report.rank == 0)


def _end(members: Sequence[Member]) -> None:
    end([member.process for member in members], 3 * GRACE)
    for member in members:
        member.reports.close()
