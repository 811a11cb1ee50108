"""What is written for a target: its table as text and numbers, or its figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drcli.errors import UsageError
from drcli.files import make_folder, write_atomic
from drcli.report.figures import learning, noisy_case, representations, sensitivity
from drcli.report.render import Format, TableText, render
from drcli.report.style import write_figure
from drcli.report.tables import comparison_tables
from drcli.reproduce.target import Drawing, Target
from drcli.runs.collect import RunRecord, by_recipe, collect, finished
from drcli.runs.comparison import compare, comparison_csv, row_values
from drcli.runs.directory import RunDirectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES: Mapping[Drawing, Callable[[Sequence[RunRecord]], Figure]] = {
    "noisy_case": noisy_case.figure,
    "representations": representations.figure,
    "learning": learning.figure,
    "sensitivity": sensitivity.figure,
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
        draw = FIGURES[target.draw]
        files = [folder / f"{name}{suffix}" for suffix in (".svg", ".png")]
        for path in files:
            write_figure(path, lambda: draw(runs))
        return Output(target.name, target.title, files, (), plain, notes)
    tables = _noted(comparison_tables(runs), notes)
    texts = {".md": _text(tables, "markdown"), ".tex": _text(tables, "latex"), ".csv": comparison_csv(rows)}
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


def _text(tables: Sequence[TableText], form: Format) -> str:
    return "\n".join(render(table, form) for table in tables)
