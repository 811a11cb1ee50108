"""Events of runs while they train, and the base of what receives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord, Failure, Summary
from drcli.runs.records import Event as DiagnosisRecord


@dataclass(frozen=True)
class RunStarted:
    """A run starts, or is resumed.

    Attributes:
        run: which.
        first_epoch: 0, or the epoch that it is resumed at.
        rows: training rows per epoch.
        data: where the training data is, in words; empty where there is nothing to say.
    """

    run: PlannedRun
    first_epoch: int
    rows: int
    data: str = ""


@dataclass(frozen=True)
class RowsDone:
    """So many more rows of the current epoch were trained on."""

    rows: int


@dataclass(frozen=True)
class EpochFinished:
    """An epoch was trained and evaluated, and its line is in the log."""

    run: PlannedRun
    record: EpochRecord


@dataclass(frozen=True)
class Diagnosed:
    """A diagnosis was made, and its line is in the log."""

    run: PlannedRun
    record: DiagnosisRecord


@dataclass(frozen=True)
class RunFinished:
    """A run has its test scores; `stored` if it was finished before this command."""

    run: PlannedRun
    summary: Summary
    stored: bool = False


@dataclass(frozen=True)
class RunFailed:
    """A run has failed; the others continue."""

    run: PlannedRun
    failure: Failure


@dataclass(frozen=True)
class Note:
    """Something the user should know, in one line."""

    text: str


Event: TypeAlias = RunStarted | RowsDone | EpochFinished | Diagnosed | RunFinished | RunFailed | Note


class Listener:
    """Receives the events of runs; this one does nothing."""

    def on(self, event: Event) -> None:
        """Receive an event."""

    def close(self) -> None:
        """The command ends, well or not."""

    def tells(self, other: Listener) -> None:
        """Notes that this listener has to make itself go to another one."""


class Listeners(Listener):
    """Passes every event on to several listeners, in order."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def on(self, event: Event) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.on(event)

    def close(self) -> None:
        """Close all of them."""
        for listener in self.listeners:
            listener.close()
