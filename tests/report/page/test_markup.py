"""HTML from values: text is escaped once, wherever it is put in."""

from __future__ import annotations

from drcli.report.page.markup import Html, element, escaped, joined


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
