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
from drcli.watch.events import Diagnosed, EpochFinished, Event, Listener, RunFailed, RunFinished, RunStarted


class TensorBoardListener(Listener):
    """Writes losses, accuracies, purities, gaps and strengths by epoch into `tensorboard/`."""

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
            case EpochFinished(_, record):
                self._write(record.to_dict(), record.epoch)
            case Diagnosed(_, record):
                self._write({record.kind: record.to_dict()["modalities"]}, record.epoch)
            case RunFinished() | RunFailed():
                self.close()

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

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())
        self._records.flush()


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of nested mappings with their names joined by "/"."""
    for name, value in values.items():
        tag = f"{prefix}/{name}" if prefix else name
        if isinstance(value, Mapping):
            yield from flatten(value, tag)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield tag, float(value)
