"""What many tests need: the shared folder, a made-up dataset, recipes over it, one thread."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.names import toy_names

from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.names import DATASETS
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # two workers on two cores


BEGUN_FIRST = ("test_ray_grid.py", "test_distributed.py", "test_jobs.py", "test_lightning_loop.py", "test_browser.py")
"""What their tests share takes seconds: they stand first, where no other worker takes half of a file away."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in BEGUN_FIRST)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected, and the packages that it imports, stay: the garbage collector never goes through them.

    Thousands of tests and torch's modules would be looked at again and again, by each full collection of each test.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_disks() -> Iterator[None]:
    """No test cuts the power: what is written need not be on the disk before the next line runs.

    A test of what happens where this call fails replaces it by one that does.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _same_torch() -> Iterator[None]:
    """What a run in deterministic mode, or a benchmark, changes in torch is put back after each test."""
    mode, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    yield
    torch.set_deterministic_debug_mode(mode)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real recordings and images, or a skip that says why."""
    folder = Path(os.environ.get("DRCLI_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data here: set DRCLI_SHARED to its folder ({folder} is none)")
    return folder


@pytest.fixture
def toy() -> Iterator[None]:
    """The dataset "toy" and the backbone "tiny" are registered."""
    with toy_names():
        yield


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared "toy"."""
    root = tmp_path_factory.mktemp("toy") / "prepared"
    with toy_names():
        toy = DATASETS.load("toy")
        toy(toy.Settings()).run(source=None, out=root)
    return root


@pytest.fixture
def toy_dataset(toy_root: Path) -> PreparedDataset:
    """The prepared "toy", opened."""
    return open_dataset(toy_root)


@pytest.fixture
def toy_dict(request: pytest.FixtureRequest, toy: None, toy_root: Path) -> Callable[..., dict[str, Any]]:
    """A recipe over "toy" as plain data; keyword arguments replace its blocks."""

    marked = request.node.get_closest_marker("convolutions")
    encoder: dict[str, Any] = {"backbone": "resnet_small", "width": 4} if marked else {"backbone": "tiny"}

    def make(modalities: tuple[str, ...] = ("audio", "visual"), **blocks: Any) -> dict[str, Any]:
        return {
            "name": "toy",
            "dataset": {"name": "toy", "root": str(toy_root)},
            "modalities": {m: dict(encoder) for m in modalities},
            "method": "diagnose_relearn",
            "methods": {
                "joint": {},
                "unimodal": {},
                "diagnose_relearn": {"every": 1, "times": 2, "lambda": 3.0, "restarts": 2},
            },
            "training": {"epochs": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
            **blocks,
        }

    return make


@pytest.fixture
def toy_recipe(toy_dict: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    """The same, validated."""

    def make(modalities: tuple[str, ...] = ("audio", "visual"), **blocks: Any) -> Recipe:
        return recipe_from_dict(toy_dict(modalities, **blocks), where="the test's recipe")

    return make
