"""What the engine tells whoever watches: the console, TensorBoard, a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drcli.engine.plan import PlannedRun


class Listener:
    """Hears what happens in a run; the default hears it and does nothing."""

    def run_started(self, run: PlannedRun, *, first_epoch: int, rows: int, data: str = "") -> None:
        """A run starts, or goes on at `first_epoch`: `rows` training rows an epoch, and `data` says where they are."""

    def rows_done(self, rows: int) -> None:
        """That many more rows of the current epoch were trained on."""

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """An epoch was evaluated; `record` is its line of metrics.jsonl."""

    def diagnosed(self, event: Mapping[str, Any]) -> None:
        """A diagnosis was made; `event` is its line of events.jsonl."""

    def run_finished(self, run: PlannedRun, summary: Mapping[str, Any], *, stored: bool) -> None:
        """A run has its test scores; `stored` if it was finished before this command."""

    def note(self, text: str) -> None:
        """Something the user should know, in one line."""

    def close(self) -> None:
        """The command ends, well or not."""


class Listeners(Listener):
    """Passes everything on to several listeners, in order."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def run_started(self, run: PlannedRun, *, first_epoch: int, rows: int, data: str = "") -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.run_started(run, first_epoch=first_epoch, rows=rows, data=data)

    def rows_done(self, rows: int) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.rows_done(rows)

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.epoch_finished(record)

    def diagnosed(self, event: Mapping[str, Any]) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.diagnosed(event)

    def run_finished(self, run: PlannedRun, summary: Mapping[str, Any], *, stored: bool) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.run_finished(run, summary, stored=stored)

    def note(self, text: str) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.note(text)

    def close(self) -> None:
        """Pass it on."""
        for listener in self.listeners:
            listener.close()
