"""Tables as text: nothing in a cell is taken for markup."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from drcli.report.render import TableText, escape_latex, escape_markdown, render, rich_table, titled

TABLE = TableText(
    "Scores in %", ("method", "a_b"), [("uni_frozen", "84.1 ± 1.2"), ("x|y", "-3.8 [-8.0, +0.5]")], ["n & m"]
)


def test_markdown_is_a_table_between_title_and_notes() -> None:
    assert render(TABLE, "markdown").splitlines() == [
        "**Scores in %**",
        "",
        "| method | a_b |",
        "|---|---:|",
        "| uni_frozen | 84.1 ± 1.2 |",
        r"| x\|y | -3.8 [-8.0, +0.5] |",
        "",
        "- n & m",
    ]


def test_latex_is_a_booktabs_table_with_everything_escaped() -> None:
    lines = [line.strip() for line in render(TABLE, "latex").splitlines()]
    assert lines[lines.index(r"\toprule") + 1 : lines.index(r"\bottomrule")] == [
        r"method & a\_b \\",
        r"\midrule",
        r"uni\_frozen & 84.1 $\pm$ 1.2 \\",
        r"x\textbar{}y & $-$3.8 [$-$8.0, +0.5] \\",
    ]
    assert r"\caption{Scores in \%}" in lines
    assert r"{\footnotesize n \& m\par}" in lines
    assert r"\begin{tabular}{lr}" in lines


def test_bold_cells_are_bold_in_latex_alone() -> None:
    table = replace(TABLE, bold=[(0, 1), (1, 0)])
    lines = [line.strip() for line in render(table, "latex").splitlines()]
    assert r"uni\_frozen & \textbf{84.1 $\pm$ 1.2} \\" in lines
    assert r"\textbf{x\textbar{}y} & $-$3.8 [$-$8.0, +0.5] \\" in lines
    assert render(table, "markdown") == render(TABLE, "markdown")


@pytest.mark.parametrize(
    ("text", "latex", "markdown"),
    [
        (r"a\b", r"a\textbackslash{}b", r"a\\b"),
        ("{x}^2~#$", r"\{x\}\textasciicircum{}2\textasciitilde{}\#\$", r"{x}^2\~#\$"),
        ("a--b ---5", "a-{}-b -{}-{}-5", "a--b ---5"),
        ("[x](y) [-1, 2] [a]: b", "[x](y) [$-$1, 2] [a]: b", r"[x\](y) [-1, 2] [a\]: b"),
        ("a & b &lt; &#60;", r"a \& b \&lt; \&\#60;", r"a & b \&lt; \&#60;"),
        ("_x_ y_ a_b", r"\_x\_ y\_ a\_b", r"\_x\_ y\_ a_b"),
        ("<script>", "$<$script$>$", r"\<script>"),
        ("*50.0†", r"*50.0$^\dagger$", r"\*50.0†"),
        ("two\nlines", "two lines", "two lines"),
        ("e-5 is no -5", "e-5 is no $-$5", "e-5 is no -5"),
        ("`code`", "`code`", r"\`code\`"),
    ],
)
def test_characters_with_a_meaning_are_escaped(text: str, latex: str, markdown: str) -> None:
    assert escape_latex(text) == latex
    assert escape_markdown(text) == markdown


def test_a_bracket_at_the_start_of_a_row_is_no_length_of_the_break_before() -> None:
    assert "    {[a]} \\\\" in render(TableText("t", ("[a]",), [("[b]",)]), "latex")


def test_on_a_terminal_names_are_folded_and_not_cut_off() -> None:
    stream = io.StringIO()
    table = TableText("t", ("method", *"abcdefgh"), [("diagnose_relearn", *["84.1 [-12.3, +0.5]"] * 8)])
    Console(file=stream, width=80).print(rich_table(table))
    shown = stream.getvalue()
    assert "…" not in shown
    first = "".join(line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│"))
    assert first == "diagnose_relearn"


def test_lines_around_a_table_are_not_broken_and_brackets_are_no_markup() -> None:
    stream, path = io.StringIO(), "/a/[b]/" + "c" * 50
    Console(file=stream, width=20).print(titled(f"{path} of it", Table("x"), f"runs: {path}"), crop=False)
    lines = stream.getvalue().splitlines()
    assert (lines[0], lines[-1]) == (f"{path} of it", f"runs: {path}")


def test_on_a_terminal_brackets_are_no_markup() -> None:
    stream = io.StringIO()
    Console(file=stream, width=80).print(rich_table(TableText("[red]t", ("[bold]c",), [("[x]",)], ["[dim]n"])))
    assert all(text in stream.getvalue() for text in ("[red]t", "[bold]c", "[x]", "[dim]n"))


def test_warnings_come_before_the_notes_and_stand_out() -> None:
    table = TableText("t", ("method", "n"), [["joint", "1"]], ["a note"], warnings=["take_care"])
    assert render(table, "markdown").endswith("\n\n- **take_care**\n- a note\n")
    assert render(table, "latex").index(r"take\_care\par") < render(table, "latex").index(r"a note\par")
    *_, warning, note = rich_table(table).renderables
    assert (str(warning), getattr(warning, "style", ""), str(note)) == ("take_care", "yellow", "a note")
