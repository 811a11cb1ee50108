"""Tables: what a column is sorted by, and how numbers are set."""

from __future__ import annotations

import re

from drcli.report.page.table import mean_and_spread, to_html
from drcli.report.render import TableText


def keys(html: str) -> list[str]:
    return re.findall(r'data-key="([^"]*)"', html)


def test_numbers_are_sorted_by_the_number_that_their_cell_begins_with() -> None:
    rows = [
        ("joint", "84.1 \N{PLUS-MINUS SIGN} 0.6", "-"),
        ("ogm", "9", "-0.5 [-1.0, +2.0]"),
        ("pmr", "-", "[+1.5, +2.0]"),
    ]
    html = to_html(TableText("t", ("method", "accuracy", "difference"), rows))
    assert keys(html) == ["joint", "84.1", "", "ogm", "9.0", "-0.5", "pmr", "", "1.5"]
    assert html.count('aria-sort="none" class="number"') == 2


def test_a_column_with_one_text_is_sorted_as_text() -> None:
    html = to_html(TableText("t", ("what", "value"), [("python", "3.11"), ("device", "cpu")]))
    assert keys(html) == ["python", "3.11", "device", "cpu"]
    assert 'class="number"' not in html


def test_signs_and_absent_values_are_set_as_in_print() -> None:
    html = to_html(TableText("t", ("method", "difference"), [("uni-modal", "-0.5 [-1.0, +2.0]"), ("joint", "-")]))
    assert ">\N{MINUS SIGN}0.5 [\N{MINUS SIGN}1.0, +2.0]<" in html
    assert ">uni-modal<" in html
    assert ">\N{EN DASH}<" in html


def test_a_table_without_rows_has_its_headings() -> None:
    assert to_html(TableText("t", ("a", "b"), [])).count("<button") == 2


def test_every_text_of_a_table_is_escaped() -> None:
    html = to_html(TableText("<t>", ("<c>",), [("<x>",)], ["<n>"]))
    assert not re.search("<[tcxn]>", html)


def test_one_value_has_no_spread() -> None:
    assert mean_and_spread(0.5, None, 2) == "0.50"
    assert mean_and_spread(0.5, 0.25, 2) == "0.50 \N{PLUS-MINUS SIGN} 0.25"
