"""What the terminal shows while something is done: progress of long work, lines of a run, a table of several runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from drcli.amounts import counted
from drcli.diagnosis.settings import in_words
from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord, Summary
from drcli.runs.records import Event as DiagnosisRecord
from drcli.runs.wording import duration, how_selected
from drcli.task import TASKS, TaskName
from drcli.watch.events import (
    Diagnosed,
    EpochFinished,
    Event,
    Listener,
    Note,
    RowsDone,
    RunFailed,
    RunFinished,
    RunStarted,
)

ROWS = 12
"""Epochs that the live table shows."""

SHORT: Mapping[TaskName, str] = {"classification": "acc", "regression": "MAE"}
"""The score of an epoch, in a heading."""


def columns(task: TaskName) -> tuple[str, ...]:
    """Return the headings of the epochs of a run."""
    return ("epoch", "train loss", f"train {SHORT[task]}", "val loss", f"val {SHORT[task]}", "samples/s", "left")


def grid_columns(task: TaskName) -> tuple[str, ...]:
    """Return the headings of several runs."""
    return ("run", "seed", "epochs", "train loss", "val loss", f"val {SHORT[task]}")


class RateColumn(ProgressColumn):
    """Items per second."""

    def render(self, task: Task) -> Text:
        """Return the rate, or a dash before there is one."""
        return Text("-/s" if task.speed is None else f"{task.speed:.0f}/s")


def stages(console: Console, title: str) -> tuple[Progress, Callable[[str, int, int], None]]:
    """Return a progress display and the function that reports (stage, done, total) to it."""
    display = Progress(
        TextColumn(f"{title}: {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def advance(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = display.add_task(stage, total=total)
        display.update(tasks[stage], completed=done)

    return display, advance


class Lines(Listener):
    """What all consoles have in common: lines about runs, above a live display that can be taken off the screen.

    Args:
        console: where to write; standard error, since standard output carries the result.
        total: number of runs of the command.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.live: Live | None = None

    def on(self, event: Event) -> None:
        """Write what belongs on a line of its own."""
        match event:
            case RunFinished(run, summary, stored):
                self.write(run_line(run, summary, stored=stored), "green")
            case RunFailed(_, failure):
                self.write(f"{failure}" if failure.was_stopped else f"failed: {failure}", "yellow")
            case Note(text):
                self.write(text, "yellow")
            case _:
                pass

    def write(self, line: str, style: str = "") -> None:
        """Write a line."""
        self.console.print(Text(line, style=style))

    def begin(self, lines: Iterable[str]) -> None:
        """Write what is to be said before the first run, each on one line however long it is."""
        for line in lines:
            self.console.print(Text(line, style="dim"), soft_wrap=True)

    def close(self) -> None:
        """Take the live display off the screen."""
        if self.live is not None:
            self.live.stop()
            self.live = None


class ConsoleListener(Lines):
    """Shows runs that train one after another; where the output is not a terminal, one line per epoch."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self.started = 0

    def on(self, event: Event) -> None:
        """Show an event."""
        match event:
            case RunStarted():
                self._start(event)
            case RowsDone(rows):
                if self.live is not None:
                    self.progress.advance(self.task, rows)
            case EpochFinished(_, record):
                self._add(record)
            case Diagnosed(_, record):
                self.write(event_line(record), "cyan")
            case _:
                self.close()
                self.started += isinstance(event, RunFinished) and event.stored
                super().on(event)

    def _start(self, event: RunStarted) -> None:
        """Announce the run and open its table."""
        self.started += 1
        self.epochs = event.run.recipe.training.epochs
        self.seconds: list[float] = []
        self.rows: deque[tuple[str, ...]] = deque(maxlen=ROWS)
        self.columns = columns(event.run.recipe.task)
        self.write(start_line(event, self.started, self.total), "bold")
        if self.console.is_terminal:
            self._open(event.rows)
        else:
            self.console.print("  ".join(name.rjust(10) for name in self.columns))

    def _open(self, rows: int) -> None:
        self.progress = Progress(
            TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn(), console=self.console
        )
        self.task = self.progress.add_task("epoch", total=rows)
        self.live = Live(console=self.console, transient=True, refresh_per_second=8)
        self.live.start()
        self._refresh()

    def _add(self, record: EpochRecord) -> None:
        """Add the epoch's row."""
        self.seconds.append(record.seconds)
        left = (self.epochs - 1 - record.epoch) * sum(self.seconds) / len(self.seconds)
        row = (*epoch_cells(record), duration(left))
        self.rows.append(row)
        if self.live is None:
            self.console.print("  ".join(cell.rjust(10) for cell in row), highlight=False)
            return
        self.progress.reset(self.task)
        self._refresh()

    def _refresh(self) -> None:
        table = Table(box=None, caption="* best epoch so far", caption_justify="left")
        for name in self.columns:
            table.add_column(name, justify="right")
        for row in self.rows:
            table.add_row(*row)
        if self.live is not None:
            self.live.update(Group(table, self.progress))


def start_line(event: RunStarted, number: int, total: int) -> str:
    """Return what a run is that starts."""
    run = event.run
    epochs = counted(run.recipe.training.epochs, "epoch")
    title = f"[{number}/{total}] {run.recipe.name}: {run.name} seed {run.seed}: {epochs}"
    resumed = f", resumed at epoch {event.first_epoch}" if event.first_epoch else ""
    return title + resumed + (f", training data {event.data}" if event.data else "")


def epoch_cells(record: EpochRecord) -> tuple[str, ...]:
    """Return an epoch in the columns of the live table, but the time left."""
    first = record.val.task.first
    return (
        f"{record.epoch}{'*' if record.selected else ' '}",
        f"{record.train['loss']:.4f}",
        first.text(record.train[first.key]),
        f"{record.val.loss:.4f}",
        first.text(record.val.first),
        f"{record.samples_per_second:.0f}",
    )


def event_line(event: DiagnosisRecord) -> str:
    """Return a diagnosis in words: purities, gap and strength by modality."""
    title = f"re-learning {event.event}" if event.kind == "relearn" else "diagnosis"
    left = {m: found.after.gap for m, found in event.modalities.items() if found.after is not None}
    return f"  epoch {event.epoch}: {title}: {in_words(event.modalities, left)}"


def run_line(run: PlannedRun, summary: Summary, *, stored: bool) -> str:
    """Return a finished run in one line."""
    each = {m: found.score for m, found in summary.unimodal.items()}
    each |= {} if summary.fused is None else {"fused": summary.fused}
    first = TASKS[run.recipe.task].first
    probes = ", ".join(f"{name} {first.text(value)}" for name, value in each.items())
    kept = "stored result, " if stored else ""
    before = ", before the first re-learning" if summary.is_untouched else ""
    return (
        f"  {run.recipe.name}: {run.name} seed {run.seed}: {_score(summary)} "
        f"(epoch {summary.selected_epoch}, {how_selected([summary])}{before}); "
        + (f"linear probes: {probes} " if probes else "")
        + f"({kept}{duration(summary.seconds)})"
    )


def _score(summary: Summary) -> str:
    found, split = (summary.val, "validation") if summary.tested is None else (summary.tested, "test")
    return "no scores" if found is None else f"{split} {found.task.first.name} {found.task.first.text(found.first)}"


class GridConsole(Lines):
    """Shows runs that train at once; where the output is not a terminal, one line per look at a run's log."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self.finished = 0
        self.failed = 0
        self.task: TaskName = "classification"
        self.rows: dict[Path, tuple[str, ...]] = {}  # by folder: several recipes may have runs of one name

    @property
    def is_redrawn(self) -> bool:
        """Whether the table is drawn again in its place; else a line is written for each look at a run's log."""
        return self.console.is_terminal

    def on(self, event: Event) -> None:
        """Show an event."""
        match event:
            case RunStarted(run, first_epoch):
                self._start(run, first_epoch)
            case EpochFinished(run, record):
                self._renew(run, record)
            case RunFinished(run) | RunFailed(run):
                has_failed = isinstance(event, RunFailed) and not event.failure.was_stopped
                self.finished += not has_failed
                self.failed += has_failed
                self.rows.pop(run.folder, None)
        super().on(event)
        if self.live is not None:
            self._refresh()

    def _start(self, run: PlannedRun, first_epoch: int) -> None:
        """Open the run's row; where it is resumed is a line of its own."""
        self.task = run.recipe.task
        self.rows[run.folder] = (
            f"{run.recipe.name}: {run.name}",
            str(run.seed),
            f"{first_epoch} / {run.recipe.training.epochs}",
            *("-",) * 3,
        )
        if first_epoch:
            self.write(f"{run.recipe.name}: {run.name} seed {run.seed}: resumed at epoch {first_epoch}")
        if self.is_redrawn:
            self._refresh()

    def _renew(self, run: PlannedRun, record: EpochRecord) -> None:
        """Renew the run's row."""
        row = (
            f"{run.recipe.name}: {run.name}",
            str(run.seed),
            f"{record.epoch + 1} / {run.recipe.training.epochs}",
            f"{record.train['loss']:.4f}",
            f"{record.val.loss:.4f}",
            record.val.task.first.text(record.val.first),
        )
        self.rows[run.folder] = row
        if self.is_redrawn:
            self._refresh()
        else:
            cells = zip(grid_columns(self.task)[1:], row[1:], strict=True)
            self.write(f"{row[0]} " + ", ".join(f"{name} {cell}" for name, cell in cells))

    def _refresh(self) -> None:
        if self.live is None:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        self.live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Return the runs that train, in the order of their first events."""
        failed = f", {self.failed} failed" if self.failed else ""
        out = Table(box=None, caption=f"{self.finished} of {self.total} runs finished{failed}", caption_justify="left")
        for name in grid_columns(self.task):
            out.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
        for row in self.rows.values():
            out.add_row(*row)
        return out
