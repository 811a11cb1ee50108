"""The curves of a run as TensorBoard event files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drcli.errors import RunError
from drcli.files import reason
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.watch.events import Diagnosed, EpochFinished, Event, Listener, RunFailed, RunFinished, RunStarted
from drcli.watch.loggers import Value, curves, flatten, scores, settings


class TensorBoardListener(Listener):
    """Writes losses, accuracies, purities, gaps and strengths by epoch into `tensorboard/`, and the scores at last."""

    def __init__(self) -> None:
        self.file: EventFile | None = None

    def on(self, event: Event) -> None:
        """Write the numbers of an event.

        Raises:
            RunError: they cannot be written.
        """
        match event:
            case RunStarted(run, first_epoch):  # the file is opened with the first numbers
                self.folder = RunDirectory(run.folder).tensorboard
                self.first_epoch = first_epoch
            case EpochFinished(_, record) | Diagnosed(_, record):
                self._write(curves(record), record.epoch)
            case RunFinished(run, summary, stored):
                if not stored:
                    self._conclude(run, scores(summary), summary.selected_epoch)
                self.close()
            case RunFailed():
                self.close()

    def _conclude(self, run: PlannedRun, reached: Mapping[str, float], epoch: int) -> None:
        """Write what a run has reached, and its settings for the table of TensorBoard's HPARAMS."""
        self._write(reached, epoch)
        with self._disk_errors():
            if self.file is not None:
                self.file.write_settings(settings(run), reached)

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        with self._disk_errors():
            if self.file is None:
                self.file = EventFile(self.folder, first_step=self.first_epoch)
            self.file.write(values, step)

    def close(self) -> None:
        """Close the file, if one is open; every number is in it already."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()
            self.file = None

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn what the file system refuses into a message."""
        try:
            yield
        except OSError as error:
            self.close()
            raise RunError(f"{self.folder}: cannot be written ({reason(error)})") from error


class EventFile:
    """An event file that is written at once.

    TensorBoard's own writer hands everything to a thread: an interrupt while it waits for that thread
    can leave both waiting for ever, and a full disk shows up at a later call.

    Args:
        folder: where the file goes; made if it is not there.
        first_step: what older files of the folder hold from this step on is void.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, folder: Path, *, first_step: int) -> None:
        # Not before the first epoch is shown: the import takes half a second.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files of a folder in the order of their names.
        path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._records = RecordWriter(path.open("wb"))
        self._event = event_pb2.Event
        try:
            self._add(file_version="brain.Event:2")
            self._add(step=first_step, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))
        except OSError:
            with suppress(OSError):
                self.close()
            raise

    def write(self, values: Mapping[str, Any], step: int) -> None:
        """Write the numbers of nested mappings as scalars of a step.

        Raises:
            OSError: they cannot be written.
        """
        self._add(step=step, summary={"value": [{"tag": tag, "simple_value": x} for tag, x in flatten(values)]})

    def write_settings(self, found: Mapping[str, Value], reached: Mapping[str, float]) -> None:
        """Write settings and the names of what they have reached.

        Raises:
            OSError: they cannot be written.
        """
        from torch.utils.tensorboard.summary import hparams

        for summary in hparams(dict(found), dict(reached)):
            self._add(summary=summary)

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()
