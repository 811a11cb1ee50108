"""What the user sees while several runs train at once: one table of these, one line per finished run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from drcli.runs.planned import PlannedRun
from drcli.runs.records import EpochRecord
from drcli.runs.wording import percent
from drcli.watch.console import Lines
from drcli.watch.events import EpochFinished, Event, RunFailed, RunFinished

COLUMNS = ("run", "seed", "epochs", "train loss", "val loss", "val acc")


class GridConsole(Lines):
    """Shows runs that train at once; where the output is not a terminal, one line per look at a run's log."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self.finished = 0
        self.failed = 0
        self.rows: dict[Path, tuple[str, ...]] = {}  # by folder: several recipes may have runs of one name

    def on(self, event: Event) -> None:
        """Show an event."""
        match event:
            case EpochFinished(run, record):
                self._renew(run, record)
            case RunFinished(run) | RunFailed(run):
                self.finished += isinstance(event, RunFinished)
                self.failed += isinstance(event, RunFailed)
                self.rows.pop(run.folder, None)
        super().on(event)
        if self.live is not None:
            self._refresh()

    def _renew(self, run: PlannedRun, record: EpochRecord) -> None:
        """Renew the run's row."""
        row = (
            f"{run.recipe.name}: {run.name}",
            str(run.seed),
            f"{record.epoch + 1} / {run.recipe.training.epochs}",
            f"{record.train['loss']:.4f}",
            f"{record.val.loss:.4f}",
            percent(record.val.accuracy),
        )
        self.rows[run.folder] = row
        if self.console.is_terminal:
            self._refresh()
        else:
            cells = zip(COLUMNS[1:], row[1:], strict=True)
            self.write(f"{row[0]} " + ", ".join(f"{name} {cell}" for name, cell in cells))

    def _refresh(self) -> None:
        if self.live is None:
            self.live = Live(console=self.console, transient=True, auto_refresh=False)
            self.live.start()
        self.live.update(self.table(), refresh=True)

    def table(self) -> Table:
        """Return the runs that train, in the order in which they were first heard of."""
        failed = f", {self.failed} failed" if self.failed else ""
        out = Table(box=None, caption=f"{self.finished} of {self.total} runs finished{failed}", caption_justify="left")
        for name in COLUMNS:
            out.add_column(name, justify="left" if name == "run" else "right", overflow="fold")
        for row in self.rows.values():
            out.add_row(*row)
        return out
