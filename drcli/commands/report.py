"""`drcli report`: what runs found, as an HTML page with its figures, or as tables in Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from drcli.errors import RunError, UsageError
from drcli.files import reason, write_atomic
from drcli.report.conditions import measured_tables
from drcli.report.render import Format, render
from drcli.report.tables import check_columns, comparison_tables, split_warnings
from drcli.runs.collect import RunRecord, by_recipe, collect, finished
from drcli.runs.comparison import compare
from drcli.runs.values import comparison_csv

if TYPE_CHECKING:
    from drcli.report.page.page import Page

FORMATS = ("html", "markdown", "latex")
DEFAULT_OUT = Path("report.html")


@dataclass(frozen=True)
class ReportRequest:
    """What the command line asks for.

    Attributes:
        folders: folders with runs at or below them.
        out: file to write; None for report.html, and for standard output if it is not HTML.
        form: html, markdown or latex.
        figures: folder of the figures' files; None for one beside the page.
        png: whether to write the figures as .png too.
        maps: labels shown in maps and confusion matrices; empty for joint training and D&R.
        no_maps: whether to leave the maps out.
        reference: label that differences are to; None for joint training.
        columns: keys of the tables' columns; None for all.
        second_hand: whether tables have the published figures that were not read where they were published.
    """

    folders: Sequence[Path]
    out: Path | None
    form: str
    figures: Path | None
    png: bool
    maps: Sequence[str]
    no_maps: bool
    reference: str | None = None
    columns: Sequence[str] | None = None
    second_hand: bool = False


def report(request: ReportRequest, progress: Console) -> str:
    """Write what was requested, and return what belongs on standard output.

    Where no run is finished the page is written all the same, and standard error says so. Beside a file of LaTeX
    comes one of its numbers in full precision, `.csv`.

    Raises:
        UsageError: an option is not valid, a folder holds no run, or no run for a table is finished.
        DataError: a folder is not there, or a file of a run is damaged.
        RunError: a file cannot be written.
    """
    _check(request)
    runs = collect(request.folders)
    if request.out is not None or request.form == "html":  # a table on the screen says it itself
        for warning in split_warnings(runs):
            progress.print(Text(warning, style="yellow"), soft_wrap=True)
    if request.form == "html":
        return _write_page(request, runs, progress)
    latex = request.form == "latex"
    form: Format = "latex" if latex else "markdown"
    tables = comparison_tables(
        runs, request.reference, request.columns, for_print=latex, second_hand=request.second_hand
    )
    text = "\n".join(render(table, form) for table in [*tables, *measured_tables(runs)])
    if request.out is None:
        return text
    _write(request.out, text.encode("utf-8"))
    if latex:
        _write_csv(request.out.with_suffix(".csv"), runs, request.reference, progress)
    return f"{request.out}\n"


def _write_csv(path: Path, runs: Sequence[RunRecord], reference: str | None, progress: Console) -> None:
    rows = {recipe: compare(group, reference) for recipe, group in by_recipe(finished(runs)).items()}
    _write(path, comparison_csv(rows).encode("utf-8"))
    progress.print(Text(f"written beside it: {path}"), soft_wrap=True)


def _check(request: ReportRequest) -> None:
    if request.form not in FORMATS:
        raise UsageError(f"--format {request.form}: must be one of {', '.join(FORMATS)}")
    if request.maps and request.no_maps:
        raise UsageError("--maps and --no-maps: choose one of them")
    if request.out is not None and request.out.is_dir():
        raise UsageError(f"--out {request.out}: is a folder; name the file to write, such as {request.out}/report.html")
    if request.out is not None and request.form == "latex" and request.out.suffix.lower() == ".csv":
        raise UsageError(f"--out {request.out}: its numbers are written as .csv beside it; choose another suffix, .tex")
    check_columns(request.columns or ())
    only_html = {
        "--figures": request.figures,
        "--png": request.png,
        "--maps": request.maps,
        "--no-maps": request.no_maps,
    }
    given = [name for name, value in only_html.items() if value]
    if request.form != "html" and given:
        raise UsageError(f"{', '.join(given)}: only for --format html; {request.form} has tables alone")


def _write_page(request: ReportRequest, runs: Sequence[RunRecord], progress: Console) -> str:
    from drcli.report.page.page import Options, build

    out = request.out or DEFAULT_OUT
    options = Options(request.maps, not request.no_maps, request.reference, request.columns, request.second_hand)
    page = build(runs, options)
    folder = request.figures or out.with_name(f"{out.stem}_figures")
    _write_figures(folder, page, png=request.png)
    _write(out, page.html.encode("utf-8"))  # last: where the page is, its figures are
    if not finished(runs):
        many = f"none of the {len(runs)} runs is finished: the page shows their progress only"
        one = "the run is not finished: the page shows its progress only"
        progress.print(Text(one if len(runs) == 1 else many, style="yellow"), soft_wrap=True)
    return f"{out}\n"


def _write_figures(folder: Path, page: Page, *, png: bool) -> None:
    from drcli.report.page.figure import to_png

    for drawing, svg in zip(page.drawings, page.svgs, strict=True):
        _write(folder / f"{drawing.name}.svg", svg.encode("utf-8"), options="--out or --figures")
        if png:
            _write(folder / f"{drawing.name}.png", to_png(drawing), options="--out or --figures")


def _write(path: Path, data: bytes, options: str = "--out") -> None:
    """Write a file whole, and the folders that it is in; `options` say where that is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = f"choose another place with {options}"
        raise RunError(f"{path.parent}: cannot be made ({reason(error)}); {remedy}") from error
    write_atomic(path, data)
