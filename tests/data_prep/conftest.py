"""Downloads for the preparers' tests: a tiny avmnist, and a copy of any module's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.avmnist_tree import write_download


@pytest.fixture
def make_download(tmp_path: Path) -> Callable[..., Path]:
    return partial(write_download, tmp_path)


@pytest.fixture
def source(download: Path, tmp_path: Path) -> Path:
    """A copy of a module's `download` that a test may damage."""
    return Path(shutil.copytree(download, tmp_path / "download"))
