"""Several runs one after another; what ends one of them does not stop the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from drcli.data.prepared import PreparedDataset
from drcli.engine.run import execute, failure_of
from drcli.errors import DamagedError, DrcliError, PeerError
from drcli.runs.collect import RunRecord
from drcli.runs.directory import STARTING_OVER, RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.records import Failure
from drcli.watch.events import Listener, RunFailed
from drcli.world import ALONE, World


@dataclass(frozen=True)
class GridResult:
    """What the runs of a command ended with.

    Attributes:
        runs: the finished ones, in order.
        failed: what ended the others.
        ended: what ended the command before all runs had their turn, if anything did.
    """

    runs: list[RunRecord]
    failed: list[Failure] = field(default_factory=list)
    ended: DrcliError | None = None

    @property
    def messages(self) -> list[str]:
        """What went wrong, each message once."""
        ended = [] if self.ended is None else [str(self.ended)]
        return list(dict.fromkeys([*map(str, self.failed), *ended]))

    @property
    def exit_code(self) -> int:
        """0 where all is well; the code that all failures share where nothing else happened; else 1."""
        if self.ended is not None:
            return self.ended.exit_code
        codes = {failure.exit_code for failure in self.failed}
        return codes.pop() if len(codes) == 1 and not self.runs else int(bool(self.failed))


def run_grid(
    runs: Sequence[PlannedRun],
    dataset: PreparedDataset,
    *,
    device: torch.device,
    listener: Listener,
    fresh: bool = False,
    world: World = ALONE,
    threads: int | None = None,
) -> GridResult:
    """Execute runs one after another; a run that fails, for whatever reason, does not stop the others.

    Several processes call it with the same runs, and each returns the result. `threads` are those that the user has
    asked for, see `execute`.

    Raises:
        RecipeError: another recipe was trained in one of the folders.
        DataError: other data was used in one of the folders.
        PeerError: one of several processes failed.
    """
    if not fresh:
        world.on_main(lambda: check_folders(runs, dataset))
    done, failed = [], []
    for run in runs:
        try:
            execute(run, dataset, device=device, listener=listener, fresh=fresh, world=world, threads=threads)
            done.append(stored_run(run))
        except PeerError:
            raise
        except (Exception, SystemExit) as error:
            if world.size > 1 and not isinstance(error, DrcliError):
                raise
            failed.append(failure_of(run, error))
            if len(runs) > 1:  # of one that is alone the command says so
                listener.on(RunFailed(run, failed[-1]))
    return GridResult(done, failed)


def check_folders(runs: Iterable[PlannedRun], dataset: PreparedDataset) -> None:
    """Refuse what the folders hold before the first run is trained, not when its turn comes.

    A damaged file is left to its run, which fails.

    Raises:
        RecipeError: another recipe was trained in one of them.
        DataError: other data was used in one of them.
    """
    for run in runs:
        try:
            RunDirectory(run.folder).check(run.recipe, dataset.info.fingerprint)
        except DamagedError:
            continue


def stored_run(run: PlannedRun) -> RunRecord:
    """Return a finished run as it lies on the disk."""
    return RunRecord.read(run.folder, remedy=STARTING_OVER)


def finished_among(runs: Iterable[PlannedRun]) -> list[RunRecord]:
    """Return those runs that are finished; a damaged one is not."""
    found = []
    for run in filter(is_stored, runs):
        with suppress(DamagedError):
            found.append(stored_run(run))
    return found


def is_stored(run: PlannedRun) -> bool:
    """Return whether a run is finished, as far as can be seen without reading its scores; a damaged one is not."""
    try:
        return RunDirectory(run.folder).is_finished(run.recipe)
    except DamagedError:
        return False
