"""Fixtures for the command line: calls of it, recipes over "toy", and a finished run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import Drcli, Process, RecipeFile, Refused, invoke, start
from support.names import toy_names


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are not folded, whatever window the tests run in."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def drcli(toy: None) -> Drcli:
    """Runs drcli, with "toy" among its datasets, and returns what it wrote."""
    return invoke


@pytest.fixture
def refused(toy: None) -> Refused:
    """Runs drcli, which must refuse: one message on standard error, nothing on standard output."""

    def run(*args: object, code: int) -> str:
        result = invoke(*args, code=code)
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert result.stderr.count("drcli: ") == 1
        return result.stderr.partition("drcli: ")[2]

    return run


@pytest.fixture
def recipe_file(tmp_path: Path, toy_dict: Callable[..., dict[str, Any]]) -> RecipeFile:
    """Writes `toy.yaml`, two epochs of joint training, to the test's folder."""

    def write(modalities: tuple[str, ...] = ("audio", "visual"), **blocks: Any) -> Path:
        short = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_dict(modalities, **{"method": "joint", "training": short, **blocks})
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_root: Path) -> Path:
    """The run directory of a finished joint run of two epochs on "toy"; not to be changed."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = {
        "dataset": {"name": "toy", "root": str(toy_root)},
        "modalities": {m: {"backbone": "tiny"} for m in ("audio", "visual")},
        "method": "joint",
        "methods": {"joint": {}},
        "training": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with toy_names():
        invoke("train", path, "--out", folder / "runs", "--device", "cpu")
    return folder / "runs" / "toy" / "joint" / "seed0"


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run directory, for tests that damage it."""
    return Path(shutil.copytree(finished, tmp_path / "copied" / "seed0"))


@pytest.fixture
def dataset_copy(toy_root: Path, tmp_path: Path) -> Path:
    """A copy of the prepared "toy", for tests that damage it."""
    return Path(shutil.copytree(toy_root, tmp_path / "prepared"))


@pytest.fixture
def process() -> Iterator[Process]:
    """Starts drcli in a process of its own, which is gone after the test."""
    started: list[subprocess.Popen[str]] = []

    def run(*args: object, **options: Any) -> subprocess.Popen[str]:
        started.append(start(*args, **options))
        return started[-1]

    yield run
    for one in started:
        one.kill()
        one.communicate()
