"""A table whose columns can be sorted, in a box of its own that scrolls where the window is narrow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from drcli.report.page.markup import Html, element
from drcli.report.render import TableText
from drcli.runs.comparison import spread

ABSENT = "-"
PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
# A number, with its deviation or interval, marks and number of seeds: "+1.5 [+1.0, +2.0] (n = 3)". Not "3 of 4".
_CELL = re.compile(rf"\[?({_NUMBER})(?:[^\w\s]*(?: {PLUS_MINUS} | \[|, ){_NUMBER})*[^\w\s]*(?: \(n = \d+\))?[^\w\s]*")


def to_html(table: TableText) -> Html:
    """Return the table with its notes below it; a row's first cell names it, columns of numbers stand flush right.

    A column is sorted by the first number of its cells, if there is nothing but numbers in it, else by its text.
    """
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    keys = [_sort_keys(cells) for cells in columns]
    numeric = [any(isinstance(key, float) for key in column) for column in keys]
    head = element("tr", *map(_header, table.columns, numeric))
    body = [_row(cells, [column[place] for column in keys], numeric) for place, cells in enumerate(table.rows)]
    whole = element("table", element("caption", table.title), element("thead", head), element("tbody", *body))
    # A box that scrolls has to be reachable by keyboard, and needs a name for that.
    box = element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=table.title)
    notes = element("ul", *(element("li", note) for note in table.notes), class_="notes") if table.notes else ""
    return element("div", box, notes, class_="table")


def folded(table: TableText) -> Html:
    """Return the table behind a line that opens it: what a figure shows, in numbers."""
    return element("details", element("summary", f"{table.title} in numbers"), to_html(table))


def over_seeds(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation of what each seed has, or that there is nothing."""
    return mean_and_spread(fmean(values), spread(values), digits) if values else ABSENT


def mean_and_spread(mean: float, std: float | None, digits: int) -> str:
    """Return "0.412 +- 0.020", or the mean alone."""
    return f"{mean:z.{digits}f}" if std is None else f"{mean:z.{digits}f} {PLUS_MINUS} {std:.{digits}f}"


def _sort_keys(cells: Sequence[str]) -> list[float | str | None]:
    """What to sort a column by; None, for an absent value, is last in both directions."""
    found = {cell: _CELL.fullmatch(cell) for cell in cells if cell != ABSENT}
    if all(found.values()):
        return [float(number[1]) if (number := found.get(cell)) else None for cell in cells]
    return [None if cell == ABSENT else cell for cell in cells]


def _header(title: str, is_number: bool) -> Html:
    button = element("button", title, type="button")
    return element("th", button, scope="col", aria_sort="none", class_="number" if is_number else None)


def _row(cells: Sequence[str], keys: Sequence[float | str | None], numeric: Sequence[bool]) -> Html:
    tags = ["th", *["td"] * (len(cells) - 1)]
    return element("tr", *map(_cell, tags, cells, keys, numeric))


def _cell(tag: str, text: str, key: float | str | None, is_number: bool) -> Html:
    shown = "\N{EN DASH}" if text == ABSENT else re.sub(r"(^|[ \[])-(?=\d)", "\\1\N{MINUS SIGN}", text)
    scope = "row" if tag == "th" else None
    return element(tag, shown, scope=scope, class_="number" if is_number else None, data_key="" if key is None else key)
