"""HTML from values: text is escaped once; tables know what a column is sorted by, and how numbers are set."""

from __future__ import annotations

import re

import pytest

from drcli.report.page.markup import Html, element, escaped, folded, joined, to_html
from drcli.report.render import TableText


def test_text_is_escaped_and_html_is_kept() -> None:
    assert escaped("<b>&\"'") == "&lt;b&gt;&amp;&quot;&#x27;"
    assert escaped(escaped("a < b")) == "a &lt; b"
    assert joined(["<", element("b", "&")], ", ") == "&lt;, <b>&amp;</b>"


def test_attributes_are_escaped_and_left_out_where_they_say_no() -> None:
    made = element("td", 3, data_key='"><script>', class_="number", hidden=True, scope=None, open=False)
    assert made == '<td data-key="&quot;&gt;&lt;script&gt;" class="number" hidden>3</td>'
    assert isinstance(made, Html)


def test_zero_is_said() -> None:
    assert element("td", data_key=0.0, colspan=0) == '<td data-key="0.0" colspan="0"></td>'


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


def test_zero_is_a_key_like_other_numbers() -> None:
    html = to_html(TableText("t", ("difference",), [("0.0",), ("1.0",), ("-",)]))
    assert keys(html) == ["0.0", "1.0", ""]


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        ("1e-05", "1e-05"),
        ("90.1 ± 0.4†‡", "90.1"),
        ("+1.5 [-1.0, +4.0]† (n = 3)", "1.5"),
        ("[-4.8, -2.7]†", "-4.8"),
        ("60, 100", "60.0"),
        ("12 + 40", "12.0"),
        ("<0.001‡", "0.001"),
        ("2024-11-21", "2024-11-21"),
        ("3.11.7", "3.11.7"),
        ("92e19c9bc931d13a", "92e19c9bc931d13a"),
        ("2 of 3", "2 of 3"),
    ],
)
def test_a_cell_is_a_number_only_as_a_whole(cell: str, key: str) -> None:
    html = to_html(TableText("t", ("c",), [(cell,)]))
    assert keys(html) == [key]
    assert ('class="number"' in html) == (key != cell or cell == "1e-05")


def test_signs_and_absent_values_are_set_as_in_print() -> None:
    html = to_html(TableText("t", ("method", "difference"), [("uni-modal", "-0.5 [-1.0, +2.0]"), ("joint", "-")]))
    assert ">\N{MINUS SIGN}0.5 [\N{MINUS SIGN}1.0, +2.0]<" in html
    assert ">uni-modal<" in html
    assert ">\N{EN DASH}<" in html


def test_absent_values_are_aligned_with_the_numbers_of_their_column() -> None:
    rows = [("joint", "12 + 40", "-", "cpu"), ("ogm", "-", "-", "-")]
    html = to_html(TableText("t", ("method", "seconds", "probe", "device"), rows))
    dashes = re.findall(r"<td([^>]*)>\N{EN DASH}<", html)
    assert ['class="number"' in attributes for attributes in dashes] == [True, True, True, False]
    assert html.count('aria-sort="none" class="number"') == 2


def test_a_table_without_rows_has_its_headings() -> None:
    assert to_html(TableText("t", ("a", "b"), [])).count("<button") == 2


def test_every_text_of_a_table_is_escaped() -> None:
    html = to_html(TableText("<t>", ("<c>",), [("<x>",)], ["<n>"]))
    assert not re.search("<[tcxn]>", html)


def test_a_folded_table_is_behind_a_line_with_its_title() -> None:
    table = TableText("Accuracy", ("a",), [("1",)])
    assert folded(table) == f"<details><summary>Accuracy in numbers</summary>{to_html(table)}</details>"


def test_warnings_of_a_table_stand_before_its_notes() -> None:
    html = to_html(TableText("t", ("method",), [["joint"]], ["a note"], warnings=["care"]))
    assert '<ul class="notes"><li class="warning">care</li><li>a note</li></ul>' in html
