"""What tests of the page's sections look at."""

from __future__ import annotations

from pathlib import Path

from support.run_tree import MadeRun, write_runs

from drcli.report.page.markup import Html
from drcli.report.page.sections import Section
from drcli.runs.collect import RunRecord, collect


def runs_of(root: Path, *made: MadeRun) -> list[RunRecord]:
    return collect([write_runs(root, made)])


def text(section: Section | None) -> str:
    """The tables, and the lines that stand for figures."""
    assert section is not None
    rows = [[item] if isinstance(item, Html) else item for item in section.content]
    found = [item for row in rows for item in row if isinstance(item, Html)]
    return "".join(found)
