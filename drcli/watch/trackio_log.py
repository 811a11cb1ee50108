"""The numbers of a run in Trackio: in a database on this machine, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL say.

The database is in the folder that TRACKIO_DIR names; `trackio show` opens it. The package writes from a thread of its
own, and prints on standard output, which belongs to the result of the command.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from typing import Any

from drcli.errors import LoggerError
from drcli.reading import one_line
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Diagnosed, EpochFinished, Event, Listener, RunFinished, RunStarted
from drcli.watch.loggers import curves, scores, settings, title

PROJECT = "drcli"
"""Where all runs go."""


class TrackioListener(Listener):
    """One run of Trackio for each run, in a group named for the recipe; a resumed run goes on in its own."""

    def __init__(self) -> None:
        self.run: Any = None

    def on(self, event: Event) -> None:
        """Write the numbers of an event.

        Raises:
            LoggerError: they cannot be written.
        """
        with _own_ways():
            match event:
                case RunStarted(run, first_epoch):
                    self.run = _started(run, first_epoch)
                case EpochFinished(_, record) | Diagnosed(_, record):
                    self.run.log(curves(record), step=record.epoch)
                case RunFinished(_, summary):
                    self.run.log(scores(summary), step=summary.selected_epoch)
                    self.close()

    def close(self) -> None:
        """Write what is not written yet, and end the run."""
        begun, self.run = self.run is not None, None
        if begun:
            with _own_ways():
                import_module("trackio").finish()  # not the run's own method: the package would end it again at exit


def _started(run: PlannedRun, first_epoch: int) -> Any:
    return import_module("trackio").init(
        project=PROJECT,
        name=name_of(run),
        group=run.recipe.name,
        resume="allow" if first_epoch else "never",
        config=settings(run),
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )


def name_of(run: PlannedRun) -> str:
    """Return a run's name, by which a resumed run finds its own again: it ends in a digest of the run directory."""
    folder = str(run.folder.absolute()).encode(errors="surrogateescape")
    return f"{title(run)} ({hashlib.sha256(folder).hexdigest()[:6]})"


@contextmanager
def _own_ways() -> Iterator[None]:
    """Turn what the package raises into a message, and send what it prints to standard error."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (ValueError, RuntimeError, OSError) as error:
        raise LoggerError(f"log: trackio: {one_line(error)}") from error
