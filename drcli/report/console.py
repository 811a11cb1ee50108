"""What the user sees while runs train: a live table, diagnosis events, one line a finished run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from drcli.engine.listener import Listener
from drcli.engine.plan import PlannedRun

ROWS = 12
"""Epochs that the live table shows."""

COLUMNS = ("epoch", "train loss", "train acc", "val loss", "val acc", "clips/s", "left")


class ConsoleListener(Listener):
    """Shows runs on a terminal; where the output is not a terminal, one line an epoch.

    Args:
        console: where to write; standard error, since standard output carries the result.
        total: number of runs of the command.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.started = 0
        self.live: Live | None = None

    def run_started(self, run: PlannedRun, *, first_epoch: int, rows: int, data: str = "") -> None:
        """Announce the run and open its table."""
        self.started += 1
        self.epochs = run.recipe.training.epochs
        self.first_epoch = first_epoch
        self.seconds: list[float] = []
        self.rows: deque[tuple[str, ...]] = deque(maxlen=ROWS)
        where = f", going on at epoch {first_epoch}" if first_epoch else ""
        count = f"[{self.started}/{self.total}]"
        title = f"{count} {run.recipe.name}: {run.name} seed {run.seed}: {self.epochs} epochs{where}"
        if data:
            title += f", training data {data}"
        self.console.print(Text(title, style="bold"))
        if self.console.is_terminal:
            self._open(rows)
        else:
            self.console.print("  ".join(name.rjust(10) for name in COLUMNS))

    def _open(self, rows: int) -> None:
        self.progress = Progress(
            TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn(), console=self.console
        )
        self.task = self.progress.add_task("epoch", total=rows)
        self.live = Live(console=self.console, transient=True, refresh_per_second=8)
        self.live.start()
        self._refresh()

    def rows_done(self, rows: int) -> None:
        """Move the bar of the epoch."""
        if self.live is not None:
            self.progress.advance(self.task, rows)

    def epoch_finished(self, record: Mapping[str, Any]) -> None:
        """Add the epoch's row."""
        self.seconds.append(record["seconds"])
        left = (self.epochs - 1 - record["epoch"]) * sum(self.seconds) / len(self.seconds)
        row = (
            f"{record['epoch']}{'*' if record['selected'] else ' '}",
            f"{record['train']['loss']:.4f}",
            percent(record["train"]["accuracy"]),
            f"{record['val']['loss']:.4f}",
            percent(record["val"]["accuracy"]),
            f"{record['clips_per_second']:.0f}",
            duration(left),
        )
        self.rows.append(row)
        if self.live is None:
            self.console.print("  ".join(cell.rjust(10) for cell in row), highlight=False)
            return
        self.progress.reset(self.task)
        self._refresh()

    def _refresh(self) -> None:
        table = Table(box=None, caption="* selected so far", caption_justify="left")
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(*row)
        if self.live is not None:
            self.live.update(Group(table, self.progress))

    def diagnosed(self, event: Mapping[str, Any]) -> None:
        """Write a diagnosis in one line a modality."""
        self.console.print(Text(event_line(event), style="cyan"))

    def run_finished(self, run: PlannedRun, summary: Mapping[str, Any], *, stored: bool) -> None:
        """Close the table and write the run's test score."""
        self.close()
        if stored:
            self.started += 1
        self.console.print(Text(run_line(run, summary, stored=stored), style="green"))

    def note(self, text: str) -> None:
        """Write a line of its own."""
        self.close()
        self.console.print(Text(text, style="yellow"))

    def close(self) -> None:
        """Take the live table off the screen."""
        if self.live is not None:
            self.live.stop()
            self.live = None


def event_line(event: Mapping[str, Any]) -> str:
    """Return a diagnosis in words: purities, gap and strength by modality."""
    title = f"re-learning {event['event']}" if event["kind"] == "relearn" else "diagnosis"
    parts = [
        f"{m} purity {found['purity_train']:.3f} / {found['purity_val']:.3f}, "
        f"gap {found['gap']:.3f}, strength {found['strength']:.3f}"
        for m, found in event["modalities"].items()
    ]
    return f"  epoch {event['epoch']}: {title}: " + "; ".join(parts)


def run_line(run: PlannedRun, summary: Mapping[str, Any], *, stored: bool) -> str:
    """Return a finished run in one line."""
    probes = ", ".join(f"{m} {percent(found['probe_accuracy'])}" for m, found in summary["unimodal"].items())
    kept = "stored result, " if stored else ""
    return (
        f"  {run.recipe.name}: {run.name} seed {run.seed}: test accuracy {percent(summary['test']['accuracy'])} "
        f"(epoch {summary['selected_epoch']}, {how_selected(run.recipe.selection, run.recipe.monitor)}); "
        f"linear probes: {probes} ({kept}{duration(summary['seconds'])})"
    )


def how_selected(selection: str, monitor: str) -> str:
    """Return how honest a test score is: "selected on val" or "selected as the last", and whether test was watched."""
    watched = ", the test split was watched while training" if monitor == "test" else ""
    return f"selected {'as the last' if selection == 'last' else f'on {selection}'}{watched}"


def percent(fraction: float) -> str:
    """Return a fraction as a percentage: "84.1 %"."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """Return seconds as "0:42", "12:05" or "3:07:09"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
