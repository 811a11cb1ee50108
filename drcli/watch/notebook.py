"""What a notebook shows while runs train: one output of a cell, drawn again in its place; and which console is right.

A notebook has no cursor to move: what a terminal draws over itself would be printed once more each time.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from io import StringIO
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from drcli.watch.console import ConsoleListener, GridConsole, Lines

WIDTH = 110
"""Columns of the output of a cell."""

_PRE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'


def run_console(console: Console, total: int) -> Lines:
    """Return what shows runs that train one after another."""
    return NotebookConsole(console, total) if console.is_jupyter else ConsoleListener(console, total)


def grid_console(console: Console, total: int) -> GridConsole:
    """Return what shows runs that train at once."""
    return NotebookConsole(console, total) if console.is_jupyter else GridConsole(console, total)


class NotebookConsole(GridConsole):
    """Shows runs in one output of a notebook's cell: lines of those that are over, and a row for each that trains."""

    def __init__(self, console: Console, total: int) -> None:
        super().__init__(console, total)
        self.lines: list[Text] = []
        self._shown: Any = None  # IPython's handle of the output

    @property
    def is_redrawn(self) -> bool:
        """Always."""
        return True

    def write(self, line: str, style: str = "") -> None:
        """Add a line above the table."""
        self.lines.append(Text(line, style=style))
        self._refresh()

    def begin(self, lines: Iterable[str]) -> None:
        """Put what is to be said before the first run into the same output."""
        for line in lines:
            self.write(line, "dim")

    def close(self) -> None:
        """Leave the lines, and how many runs are finished."""
        self.rows.clear()
        self._refresh()

    def _refresh(self) -> None:
        if self.console.quiet:
            return
        found = rendered(Group(*self.lines, self.table()))
        if self._shown is None:
            display = import_module("IPython.display").display
            self._shown = display(found, raw=True, display_id=True)
        else:
            self._shown.update(found, raw=True)


def rendered(what: Any) -> dict[str, str]:
    """Return what rich draws by its types, as a notebook takes it: text, and HTML with colours."""
    page = Console(record=True, file=StringIO(), width=WIDTH, force_jupyter=False)
    page.print(what)
    text = page.export_text(clear=False)
    return {"text/plain": text, "text/html": page.export_html(inline_styles=True, code_format=_PRE)}
