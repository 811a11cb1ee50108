"""Killed at any instant and repeated, a run ends with the bits of one that was left alone."""

from __future__ import annotations

import multiprocessing
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import invoke, start
from support.training import CPU, StoppedError, bits, log, planned

from drcli import checkpoint
from drcli.data.prepared import PreparedDataset
from drcli.engine import trainer as trainer_module
from drcli.engine.run import execute
from drcli.names import DATASETS
from drcli.recipe.schema import Recipe
from drcli.relearning import relearner as relearner_module
from drcli.runs.directory import RunDirectory
from drcli.watch.events import Listener

DRCLI = "import torch; torch.set_num_threads(1); from drcli.__main__ import main; main()"
TARGETS = {
    "checkpoint.save": (checkpoint, "save"),
    "log_epoch": (RunDirectory, "log_epoch"),
    "log_event": (RunDirectory, "log_event"),
    "truncate": (RunDirectory, "truncate"),
    "run_split": (trainer_module, "run_split"),
    "soft_reinitialise": (relearner_module, "soft_reinitialise"),
    "write_outputs": (RunDirectory, "write_outputs"),
    "write_summary": (RunDirectory, "write_summary"),
}
CALLED_ONCE = {"truncate", "write_outputs", "write_summary"}
QUICK = ("checkpoint.save", "log_event", "soft_reinitialise")
"""Tried in every test run; the others by the slow tests."""


def result(folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on how often it was stopped."""
    states = {name: checkpoint.load(folder / name) for name in ("checkpoint.pt", "last.pt")}
    kept = {name: {key: value for key, value in state.items() if key != "seconds"} for name, state in states.items()}
    return {**bits(kept), "metrics": log(folder / "metrics.jsonl"), "events": log(folder / "events.jsonl")}


@pytest.fixture
def toy_run(toy_recipe: Callable[..., Recipe], toy_dataset: PreparedDataset) -> Callable[[Path], dict[str, Any]]:
    """Executes D&R in a folder."""
    training = {"epochs": 4, "batch_size": 20, "optimizer": {"name": "sgd", "lr": 0.05}}
    recipe = toy_recipe(training=training, diagnosis={"monitor_every": 2, "restarts": 2})

    def go(folder: Path) -> dict[str, Any]:
        execute(planned(recipe, folder), toy_dataset, device=CPU, listener=Listener())
        return result(folder)

    return go


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is that nobody stops; the first test trains it."""
    return tmp_path_factory.mktemp("whole")


@pytest.fixture
def left_alone(toy_run: Callable[[Path], dict[str, Any]], whole: Path) -> dict[str, Any]:
    """What it leaves."""
    return toy_run(whole)


@pytest.mark.parametrize("when", ["before", pytest.param("after", marks=pytest.mark.slow)])
@pytest.mark.parametrize("target", [pytest.param(t, marks=[] if t in QUICK else [pytest.mark.slow]) for t in TARGETS])
def test_stopped_around_any_step_of_an_epochs_end(
    target: str, when: str, toy_run: Callable[[Path], dict[str, Any]], left_alone: dict[str, Any], tmp_path: Path
) -> None:
    """Stops at seeded random calls of a function, just before or just after it does its work."""
    draw, stopped = random.Random(f"{target} {when}"), 0
    place, name = TARGETS[target]
    real = getattr(place, name)
    for _ in range(2):
        left = draw.randrange(3) if target not in CALLED_ONCE else 0

        def stop(*args: Any, **options: Any) -> Any:
            nonlocal left, stopped
            left -= 1
            value = real(*args, **options) if left >= 0 or when == "after" else None
            if left < 0:
                stopped += 1
                raise StoppedError
            return value

        with pytest.MonkeyPatch.context() as patch, suppress(StoppedError):
            patch.setattr(place, name, stop)
            toy_run(tmp_path)
    assert stopped > 0
    assert toy_run(tmp_path) == left_alone


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file over a small prepared "digits": 20 epochs of a fraction of a second, D&R after many."""
    root = tmp_path_factory.mktemp("digits")
    preparer = DATASETS.load("digits")
    preparer(preparer.Settings()).run(source=None, out=root / "data", limit=100)
    encoder = {"backbone": "resnet_small", "width": 2, "stem_stride": 4}
    recipe = {
        "dataset": {"name": "digits", "root": str(root / "data")},
        "modalities": {"audio": encoder, "visual": encoder},
        "method": "diagnose_relearn",
        "methods": {"diagnose_relearn": {"every": 2, "times": 6, "lambda": 1.0, "restarts": 1}},
        "training": {"epochs": 20, "batch_size": 16, "optimizer": {"name": "adam", "lr": 0.005}},
    }
    path = root / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def train(recipe: Path, out: Path, *overrides: str) -> Path:
    invoke("train", recipe, *overrides, "--out", out, "--device", "cpu")
    return out / "tiny" / "diagnose_relearn" / "seed0"


def epochs_done(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def is_running(process: subprocess.Popen[str]) -> bool:
    return process.poll() is None


def kill_later(process: Any, folder: Path, alive: Callable[[], bool], delay: float) -> None:
    """Send SIGKILL a while after the process has finished an epoch of its own."""
    before, deadline = epochs_done(folder), time.monotonic() + 120
    while alive() and epochs_done(folder) in {0, before} and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_same_bits(digits: Path, tmp_path: Path) -> None:
    """Twice in a fork, which has its own memory and starts at once; once in a process from nothing."""
    whole = result(train(digits, tmp_path / "whole"))
    draw = random.Random(7)
    folder = tmp_path / "killed" / "tiny" / "diagnose_relearn" / "seed0"
    fork = multiprocessing.get_context("fork")
    for _ in range(2):
        child = fork.Process(target=train, args=(digits, tmp_path / "killed"))
        child.start()
        kill_later(child, folder, child.is_alive, draw.uniform(0, 0.15))
        child.join()
        assert child.exitcode == -signal.SIGKILL
    process = start("train", digits, "--out", tmp_path / "killed", "--device", "cpu", program=DRCLI)
    kill_later(process, folder, lambda: process.poll() is None, draw.uniform(0, 0.15))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert 0 < epochs_done(folder) < 20
    assert result(train(digits, tmp_path / "killed")) == whole
