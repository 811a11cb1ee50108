"""A table as text: for the screen, for Markdown, for LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

Format = Literal["markdown", "latex"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "‡": r"$^\ddagger$",
    "|": r"\textbar{}",
    "<": r"$<$",
    ">": r"$>$",
}


@dataclass(frozen=True)
class TableText:
    """A table ready to be shown; the first column holds names, the others figures.

    Attributes:
        title: a line above it.
        columns: C headings.
        rows: each of C cells.
        notes: lines below it.
        bold: places, row and column, of the cells that LaTeX sets in bold.
        warnings: lines below it that are not to be overlooked.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    bold: Collection[tuple[int, int]] = ()
    warnings: Sequence[str] = ()


def render(table: TableText, form: Format) -> str:
    """Return the table as Markdown (GitHub's) or as LaTeX (booktabs), ended by a line break."""
    return _FORMS[form](table)


def rich_table(table: TableText) -> Group:
    """Return the table with its notes, for a terminal; cells are never taken for markup."""
    out = Table(collapse_padding=True)
    # A cell that does not fit is broken: rich would cut it off.
    for number, name in enumerate(table.columns):
        out.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in table.rows:
        out.add_row(*map(Text, row))
    return Group(Text(table.title, style="bold"), out, *_below(table))


def _below(table: TableText) -> list[Text]:
    warnings = [Text(warning, style="yellow") for warning in table.warnings]
    return [*warnings, *(Text(note, style="dim") for note in table.notes)]


def titled(title: str, table: Table, note: str | None = None) -> Group:
    """Return a table between lines of their own, for `Console.print(..., crop=False)`.

    The lines are never broken, so that a path in them can be copied.
    """
    return Group(unbroken(title, "bold"), table, *([unbroken(note, "dim")] if note is not None else []))


def unbroken(line: str, style: str) -> Text:
    """Return a line that is never broken, so that a path in it can be copied; see `titled`."""
    return Text(line, style=style, no_wrap=True, overflow="ignore")


def _markdown(table: TableText) -> str:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(map(escape_markdown, cells))} |"

    rule = "|---|" + "---:|" * (len(table.columns) - 1)
    body = [line(table.columns), rule, *map(line, table.rows)]
    notes = [f"- **{escape_markdown(warning)}**" for warning in table.warnings]
    notes += [f"- {escape_markdown(note)}" for note in table.notes]
    blocks = [f"**{escape_markdown(table.title)}**", "\n".join(body), "\n".join(notes)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, also inside a table's cell."""
    # "]" ends the text of a link only before these, "&" begins an entity only with ";", "_" is in words as it is.
    special = r"[\\|*<`$~]|\](?=[(\[:])|&(?=#?\w+;)|\b_\B|\B_\b"
    return re.sub(special, r"\\\g<0>", " ".join(text.split()))


def _latex(table: TableText) -> str:
    def line(cells: Iterable[str], row: int = -1) -> str:
        # A "[" at the start of a row would be taken for the length of the line break before it.
        escaped = [f"{{{cell}}}" if cell.startswith("[") else cell for cell in map(escape_latex, cells)]
        shown = [rf"\textbf{{{cell}}}" if (row, place) in table.bold else cell for place, cell in enumerate(escaped)]
        return " & ".join(shown) + r" \\"

    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        f"  \\caption{{{escape_latex(table.title)}}}",
        f"  \\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
        r"    \toprule",
        f"    {line(table.columns)}",
        r"    \midrule",
        *(f"    {line(cells, row)}" for row, cells in enumerate(table.rows)),
        r"    \bottomrule",
        r"  \end{tabular}",
        *(f"\n  {{\\footnotesize {escape_latex(note)}\\par}}" for note in (*table.warnings, *table.notes)),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Return text that LaTeX sets as it is, with true minus signs before numbers."""
    text = "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
    text = re.sub("-(?=-)", "-{}", text)  # or it becomes a dash
    return re.sub(r"(^|[ \[])-(?=\d)", r"\1$-$", text)


_FORMS: dict[str, Callable[[TableText], str]] = {"markdown": _markdown, "latex": _latex}
