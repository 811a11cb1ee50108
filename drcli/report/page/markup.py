"""HTML from values: elements, and tables whose columns can be sorted.

What is not `Html` already is text, and is escaped where it is put in.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from drcli.report.render import TableText
from drcli.runs.wording import ABSENT

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
# A number, with its deviation or interval, marks and number of seeds: "+1.5 [+1.0, +2.0] (n = 3)", "12 + 40", "<0.001".
# Not "3 of 4".
_MORE = rf"[^\w\s]*(?: {PLUS_MINUS} | \[|, | \+ ){_NUMBER}"
_CELL = re.compile(rf"[\[<]?({_NUMBER})(?:{_MORE})*[^\w\s]*(?: \(n = \d+\))?[^\w\s]*")


class Html(str):
    """Text that is HTML; run directories only ever give plain text."""

    __slots__ = ()


def escaped(value: object) -> Html:
    """Return a value as HTML: HTML as it is, everything else as text with `<`, `>`, `&` and quotes escaped."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Return the parts as HTML, one after the other."""
    return Html(escaped(between).join(map(escaped, parts)))


def element(tag: str, *children: object, **attributes: object) -> Html:
    """Return an element; in names of attributes "_" stands for "-", and one at the end is dropped.

    An attribute that is None or False is left out, one that is True has no value.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items() if _is_said(value))
    return Html(f"<{tag}{written}>{joined(children)}</{tag}>")


def _is_said(value: object) -> bool:
    return value is not None and value is not False  # 0 equals False, and is said


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escaped(value)}"'


def to_html(table: TableText) -> Html:
    """Return the table with its notes below it, in a box of its own that scrolls where the window is narrow.

    A row's first cell names it; columns of numbers, with their absent values, are aligned to the right.

    A column is sorted by the first number of its cells, if there is nothing but numbers in it, else by its text.
    """
    columns = list(zip(*table.rows, strict=True)) or [()] * len(table.columns)
    keys = [_sort_keys(cells) for cells in columns]
    numeric = [_is_numeric(column, first=number == 0) for number, column in enumerate(keys)]
    head = element("tr", *map(_header, table.columns, numeric))
    body = [_row(cells, [column[place] for column in keys], numeric) for place, cells in enumerate(table.rows)]
    whole = element("table", element("caption", table.title), element("thead", head), element("tbody", *body))
    # A box that scrolls has to be reachable by keyboard, and needs a name for that.
    box = element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=table.title)
    below = [element("li", warning, class_="warning") for warning in table.warnings]
    below += [element("li", note) for note in table.notes]
    return element("div", box, element("ul", *below, class_="notes") if below else "", class_="table")


def folded(table: TableText) -> Html:
    """Return the table behind a line that opens it: what a figure shows, in numbers."""
    return element("details", element("summary", f"{table.title} in numbers"), to_html(table))


def _sort_keys(cells: Sequence[str]) -> list[float | str | None]:
    """What to sort a column by; None, for an absent value, is last in both directions."""
    found = {cell: _CELL.fullmatch(cell) for cell in cells if cell != ABSENT}
    if all(found.values()):
        return [float(number[1]) if (number := found.get(cell)) else None for cell in cells]
    return [None if cell == ABSENT else cell for cell in cells]


def _is_numeric(keys: Sequence[float | str | None], *, first: bool) -> bool:
    """Whether a column is one of numbers, also where all of them are absent; the first one holds names then."""
    present = [key for key in keys if key is not None]
    return any(isinstance(key, float) for key in present) or (bool(keys) and not present and not first)


def _header(title: str, is_number: bool) -> Html:
    button = element("button", _with_minus(title), type="button")
    return element("th", button, scope="col", aria_sort="none", class_="number" if is_number else None)


def _row(cells: Sequence[str], keys: Sequence[float | str | None], numeric: Sequence[bool]) -> Html:
    tags = ["th", *["td"] * (len(cells) - 1)]
    return element("tr", *map(_cell, tags, cells, keys, numeric))


def _cell(tag: str, text: str, key: float | str | None, is_number: bool) -> Html:
    shown = "\N{EN DASH}" if text == ABSENT else _with_minus(text)
    scope = "row" if tag == "th" else None
    return element(tag, shown, scope=scope, class_="number" if is_number else None, data_key="" if key is None else key)


def _with_minus(text: str) -> str:
    """Return text with true minus signs before numbers."""
    return re.sub(r"(^|[ \[])-(?=\d)", "\\1\N{MINUS SIGN}", text)
