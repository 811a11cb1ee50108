"""What is written for a target: its table as text and numbers, or its figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drcli.errors import UsageError
from drcli.files import make_folder, write_atomic
from drcli.report.figures import comparison, learning, representations, sensitivity
from drcli.report.render import TableText, render
from drcli.report.tables import comparison_tables
from drcli.report.theme import PAPER, Theme, write_figure
from drcli.reproduce.target import Drawing, Target
from drcli.runs.collect import RunRecord, by_recipe, collect, finished
from drcli.runs.comparison import compare
from drcli.runs.directory import RunDirectory
from drcli.runs.values import comparison_csv, row_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[["Figure"], None]


def drawn(drawing: Drawing, runs: Sequence[RunRecord], theme: Theme) -> Draw:
    """Return what draws a figure over runs on an empty one.

    Raises:
        DataError: the figure lacks runs.
    """
    return _FIGURES[drawing](runs, theme.with_methods(run.name for run in runs))


def _noisy_case(runs: Sequence[RunRecord], theme: Theme) -> Draw:
    found = comparison.data_by_recipe(runs)
    return lambda figure: comparison.draw(figure, found, theme)


def _representations(runs: Sequence[RunRecord], theme: Theme) -> Draw:
    found = representations.data(runs, theme.map_rows)
    return lambda figure: representations.draw(figure, found, theme)


def _learning(runs: Sequence[RunRecord], theme: Theme) -> Draw:
    found = learning.data(runs)
    return lambda figure: learning.draw(figure, found, theme)


def _sensitivity(runs: Sequence[RunRecord], theme: Theme) -> Draw:
    found = sensitivity.data_with_reference(runs)
    return lambda figure: sensitivity.draw(figure, found, theme)


_FIGURES: Mapping[Drawing, Callable[[Sequence[RunRecord], Theme], Draw]] = {
    "noisy_case": _noisy_case,
    "representations": _representations,
    "learning": _learning,
    "sensitivity": _sensitivity,
}


@dataclass(frozen=True)
class Output:
    """What was made of a target.

    Attributes:
        name: the target's.
        title: the target's.
        files: what was written.
        tables: for a table, what it shows.
        rows: the figures behind it, as plain data, a list per recipe.
        notes: what was left out.
    """

    name: str
    title: str
    files: Sequence[Path]
    tables: Sequence[TableText]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    notes: Sequence[str]


def write(target: Target, folders: Sequence[Path], folder: Path, name: str, notes: Sequence[str]) -> Output:
    """Write a target's files: a table as .md, .tex and .csv, a figure as .svg and .png.

    Args:
        target: what to make.
        folders: run directories, in the order of the table; those that were not started are left out.
        folder: where to.
        name: of the files, without their suffixes.
        notes: lines below the table.

    Raises:
        UsageError: no run is finished, or the folder cannot be written.
        DataError: a run is damaged, or the figure lacks runs.
        RunError: a file cannot be written.
    """
    runs = _in_order(folders)
    if not finished(runs):
        raise UsageError(f"{target.name}: none of its {len(folders)} runs is finished, so nothing is written")
    make_folder(folder, remedy="choose another folder with --figures")
    rows = {recipe: compare(group) for recipe, group in by_recipe(runs).items()}
    plain = {recipe: [row_values(row) for row in of_one] for recipe, of_one in rows.items()}
    if target.draw is not None:
        draw = drawn(target.draw, runs, PAPER)
        files = [folder / f"{name}{suffix}" for suffix in (".svg", ".png")]
        for path in files:
            write_figure(path, PAPER, draw)
        return Output(target.name, target.title, files, (), plain, notes)
    tables, printed = (_noted(comparison_tables(runs, for_print=latex), notes) for latex in (False, True))
    texts = {
        ".md": "\n".join(render(table, "markdown") for table in tables),
        ".tex": "\n".join(render(table, "latex") for table in printed),
        ".csv": comparison_csv(rows),
    }
    for suffix, text in texts.items():
        write_atomic(folder / f"{name}{suffix}", text.encode())
    return Output(target.name, target.title, [folder / f"{name}{suffix}" for suffix in texts], tables, plain, notes)


def _in_order(folders: Sequence[Path]) -> list[RunRecord]:
    places = {folder.resolve(): place for place, folder in enumerate(folders)}
    begun = collect([folder for folder in folders if RunDirectory(folder).exists])
    found = [run for run in begun if run.folder.resolve() in places]  # not what else lies below them
    return sorted(found, key=lambda run: places[run.folder.resolve()])


def _noted(tables: Sequence[TableText], notes: Sequence[str]) -> list[TableText]:
    """Put a target's notes below its last table."""
    return [*tables[:-1], *(replace(table, notes=[*table.notes, *notes]) for table in tables[-1:])]
