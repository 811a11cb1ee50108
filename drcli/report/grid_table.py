"""What the user sees while several runs train at once: one table of those that do, one line a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from drcli.engine.plan import PlannedRun
from drcli.engine.ray_grid import GridListener
from drcli.report.console import percent, run_line

COLUMNS = ("run", "seed", "epochs", "train loss", "val loss", "val acc")


class GridConsole(GridListener):
    """Shows a grid on a terminal; where the output is not a terminal, one line a look at a run's log.

    Args:
        console: where to write; standard error, since standard output carries the result.
        total: number of runs of the command.
    """

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.finished = 0
        self.failed = 0
        self.rows: dict[Path, tuple[str, ...]] = {}  # by folder: several recipes may have runs of one name
        self.live: Live | None = None

    def run_advanced(self, run: PlannedRun, record: Mapping[str, Any]) -> None:
        """Renew the run's row."""
        row = (
            f"{run.recipe.name}: {run.name}",
            str(run.seed),
            f"{record['epoch'] + 1} / {run.recipe.training.epochs}",
            f"{record['train']['loss']:.4f}",
            f"{record['val']['loss']:.4f}",
            percent(record["val"]["accuracy"]),
        )
        self.rows[run.folder] = row
        if self.console.is_terminal:
            self._refresh()
        else:
            cells = zip(COLUMNS[1:], row[1:], strict=True)
            self._print(f"{row[0]} " + ", ".join(f"{name} {cell}" for name, cell in cells), "")

    def run_finished(self, run: PlannedRun, summary: Mapping[str, Any], *, stored: bool) -> None:
        """Write the run's test score in place of its row."""
        self.finished += 1
        self._leave(run, run_line(run, summary, stored=stored), "green")

    def run_failed(self, run: PlannedRun, message: str) -> None:
        """Write what went wrong in place of the run's row."""
        self.failed += 1
        self._leave(run, f"failed: {message}", "yellow")

    def note(self, text: str) -> None:
        """Write a line of its own."""
        self._print(text, "yellow")

    def close(self) -> None:
        """Take the live table off the screen."""
        if self.live is not None:
            self.live.stop()
            self.live = None

    def _leave(self, run: PlannedRun, line: str, style: str) -> None:
        self.rows.pop(run.folder, None)
        self._print(line, style)
        if self.live is not None:
            self._refresh()

    def _print(self, line: str, style: str) -> None:
        self.console.print(Text(line, style=style))

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
