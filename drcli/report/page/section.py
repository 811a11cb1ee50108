"""What a section of the page consists of, and which runs it shows in detail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from drcli.errors import UsageError
from drcli.report.page.drawing import Drawing
from drcli.report.page.markup import Html
from drcli.runs.collect import RunRecord

Methods = Mapping[str, Sequence[RunRecord]]
"""The finished runs of one recipe by their name in tables; the order decides colours."""


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        title: its heading.
        intro: how to read it.
        content: tables and figures; figures that follow one another share a row.
    """

    title: str
    intro: str
    content: Sequence[Html | Drawing]


def featured(methods: Methods, labels: Collection[str]) -> list[str]:
    """Return the methods that are shown in detail: those named, else joint and D&R, else the first two."""
    if labels:
        return [name for name, runs in methods.items() if runs[0].label in labels]
    wanted = ("joint", "diagnose_relearn")
    found = [next((name for name, runs in methods.items() if runs[0].method == method), None) for method in wanted]
    return list(methods)[:2] if None in found else [name for name in found if name is not None]


def check_labels(runs: Sequence[RunRecord], labels: Collection[str]) -> None:
    """Refuse labels that no run has.

    Raises:
        UsageError: there are such labels.
    """
    known = dict.fromkeys(run.label for run in runs)
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise UsageError(f"--maps {','.join(unknown)}: no run has this label; labels here: {', '.join(known)}")
