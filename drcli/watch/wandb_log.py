"""The numbers of a run in Weights & Biases; WANDB_MODE=offline keeps them on this machine until `wandb sync`."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from drcli.errors import LoggerError, RunError
from drcli.reading import one_line
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Diagnosed, EpochFinished, Event, Listener, RunFinished, RunStarted
from drcli.watch.loggers import curves, scores, settings, title

PROJECT = "drcli"
"""Where runs go if WANDB_PROJECT does not say."""


class WandbListener(Listener):
    """One run of Weights & Biases for each run, in `wandb/` of its folder; a resumed run goes on with the same id."""

    def __init__(self) -> None:
        self.run: Any = None

    def on(self, event: Event) -> None:
        """Write the numbers of an event.

        Raises:
            LoggerError: they cannot be written.
            RunError: a run cannot be begun there, for example because nobody is logged in.
        """
        with _own_errors(RunError if isinstance(event, RunStarted) else LoggerError):
            match event:
                case RunStarted(run, first_epoch):
                    self.run = _started(run, first_epoch)
                case EpochFinished(_, record) | Diagnosed(_, record):
                    self.run.log(curves(record), step=record.epoch)
                case RunFinished(_, summary):
                    self.run.summary.update(scores(summary))
                    self._finish(0)

    def close(self) -> None:
        """End a run that has not come to its end as a failed one."""
        with _own_errors(LoggerError):
            self._finish(1)

    def _finish(self, code: int) -> None:
        run, self.run = self.run, None
        if run is not None:
            run.finish(exit_code=code)


def _started(run: PlannedRun, first_epoch: int) -> Any:
    wandb = import_module("wandb")
    RunDirectory(run.folder).guard()
    earlier = sorted((run.folder / "wandb").glob("*run-*")) if first_epoch else []
    return wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        name=title(run),
        group=run.recipe.name,
        job_type=run.name,
        id=id_of(earlier[-1]) if earlier else uuid.uuid4().hex[:12],
        resume="allow",
        dir=str(run.folder),
        config=settings(run),
        settings=wandb.Settings(silent=True, console="off"),
    )


def id_of(folder: Path) -> str:
    """Return the id of the run that a folder offline-run-TIME-ID is of; a second one of the same second ends in -1."""
    return folder.name.partition("run-")[2].split("-")[1]


@contextmanager
def _own_errors(kind: type[RunError]) -> Iterator[None]:
    """Turn what the package raises into a message of a kind."""
    errors = import_module("wandb").errors
    try:
        yield
    except (errors.Error, OSError) as error:
        raise kind(
            f"log: wandb: {one_line(error)}; run wandb login, set WANDB_MODE=offline, or leave wandb out of log"
        ) from error
