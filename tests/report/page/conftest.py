"""Fixtures of the page: made-up runs, and no t-SNE, which has its own tests and takes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.run_tree import MadeRun, small_study, write_runs

from drcli.report.page.page import Options, Page, build
from drcli.runs.collect import collect

EVERYTHING = Options()
MakePage = Callable[..., Page]


@pytest.fixture(autouse=True, scope="session")
def _flat_maps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drcli.report.embedding.tsne", lambda components: components[:, :2])
        yield


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not drawn, which takes seconds: for tests of what they are called, say and are made of."""
    monkeypatch.setattr("drcli.report.page.page.to_svg", lambda _: "<svg></svg>")


@pytest.fixture
def page(tmp_path: Path) -> MakePage:
    """Makes the page about some runs."""

    def make(*runs: MadeRun, options: Options = EVERYTHING) -> Page:
        return build(collect([write_runs(tmp_path / "runs", runs)]), options)

    return make


@pytest.fixture(scope="session")
def study(_flat_maps: None, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page about two seeds of joint training and of D&R, and an unfinished run."""
    runs = [*small_study(), MadeRun("ogm", finished=False)]
    return build(collect([write_runs(tmp_path_factory.mktemp("study"), runs)]))
