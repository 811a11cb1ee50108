"""A hundred SIGKILLs: whatever a process was doing, the command repeated ends with the bits of one left alone."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import invoke, start, tree
from support.training import bits, log
from support.ucf101_tree import make_ucf101

from data_prep.writing import clips
from drcli import checkpoint

pytestmark = pytest.mark.slow

DRCLI = "import torch; torch.set_num_threads(1); from drcli.__main__ import main; main()"
PREPARE = ("frame_size=[32,43]", "positions=4", "val_groups=[24]", "flow=dis")
ENCODER = {"backbone": "resnet_small", "width": 4, "frames": 2, "size": 32}


@dataclass(frozen=True)
class Job:
    """A command that is killed and repeated.

    Attributes:
        arguments: of drcli; without those that say where to.
        out: what it makes.
        read: what of that must not depend on kills.
    """

    arguments: tuple[object, ...]
    out: Path
    read: Callable[[Path], Any]

    def run(self) -> None:
        """Run it in this process."""
        invoke(*self.arguments, "--out", self.out)

    def fork(self) -> Any:
        """Start it in a process that has everything imported."""
        child = multiprocessing.get_context("fork").Process(target=self.run)
        child.start()
        return child

    def result(self) -> Any:
        """What it made."""
        return self.read(self.out)


def kill_until(job: Job, kills: int, whole: Any, seconds: float, seed: str) -> int:
    """Kill a command at random times until it has been killed so often; returns how often it ended before.

    Each time that it ends, its result is compared and removed, and it begins anew.
    """
    draw, killed, ended = random.Random(seed), 0, 0
    while killed < kills:
        child = job.fork()
        child.join(timeout=draw.uniform(0, 1.1 * seconds))
        if child.exitcode is None:
            child.kill()
        child.join()
        if child.exitcode == -signal.SIGKILL:
            killed += 1
            continue
        assert child.exitcode == 0
        assert job.result() == whole, f"after {killed} kills"
        ended += 1
        shutil.rmtree(job.out)
    job.run()
    assert job.result() == whole
    return ended + 1


def kill_from_nothing(job: Job, kills: int, seconds: float, seed: str) -> None:
    """Kill it so often in processes that import everything first."""
    draw, killed = random.Random(seed), 0
    while killed < kills:
        process = start(*job.arguments, "--out", job.out, program=DRCLI)
        try:
            process.wait(timeout=draw.uniform(0.5, seconds))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            killed += 1
        else:
            assert process.returncode == 0
            shutil.rmtree(job.out)


def timed(job: Job) -> tuple[Any, float]:
    """What a command that is left alone makes, and how long that takes."""
    started = time.monotonic()
    job.run()
    seconds, whole = time.monotonic() - started, job.result()
    shutil.rmtree(job.out)
    return whole, seconds


def read_run(out: Path) -> dict[str, Any]:
    """Checkpoints, logs and outputs of the run, without what the clock says."""
    (folder,) = [path.parent for path in out.rglob("recipe.yaml")]
    states = {name: checkpoint.load(folder / name) for name in ("checkpoint.pt", "last.pt")}
    kept = {name: {key: value for key, value in state.items() if key != "seconds"} for name, state in states.items()}
    logs = {name: log(folder / name) for name in ("metrics.jsonl", "events.jsonl")}
    assert any(event["kind"] == "relearn" for event in logs["events.jsonl"])
    return {**bits(kept), **logs, "outputs": (folder / "test_outputs.npz").read_bytes()}


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 clips of three classes, some with sound, and one that is no clip."""
    source = make_ucf101(tmp_path_factory.mktemp("ucf") / "download", clips=4)
    next((source / "UCF-101").rglob("*_g08_c02.avi")).write_bytes(b"RIFF lost")
    return source


@pytest.fixture
def preparation(download: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Its preparation, which writes its journal every three clips."""
    monkeypatch.setattr(clips, "_BATCH", 3)
    settings = [f"dataset.prepare.{setting}" for setting in PREPARE]
    arguments = ("prepare", "ucf101", *settings, "--source", download, "--max-bad", "10%")
    return Job(arguments, tmp_path / "ucf101", tree)


@pytest.fixture
def training(preparation: Job, tmp_path: Path) -> Job:
    """D&R on the dataset, which re-learns after most epochs."""
    preparation.run()
    recipe = {
        "dataset": {
            "name": "ucf101",
            "root": str(preparation.out),
            "prepare": {key: yaml.safe_load(value) for key, value in (setting.split("=") for setting in PREPARE)},
        },
        "modalities": {"rgb": ENCODER, "flow": ENCODER},
        "method": "diagnose_relearn",
        "methods": {"diagnose_relearn": {"every": 1, "times": 6, "lambda": 1.0, "restarts": 1}},
        "training": {"epochs": 10, "batch_size": 6, "optimizer": {"name": "adam", "lr": 0.005}},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Job(("train", path, "--device", "cpu"), tmp_path / "runs", read_run)


def test_a_training_killed_fifty_times(training: Job) -> None:
    whole, seconds = timed(training)
    kill_from_nothing(training, 5, seconds + 5, "train from nothing")
    ended = kill_until(training, 45, whole, seconds, "train")
    sys.stdout.write(f"train: 50 kills, {ended} of {ended} finished runs with the same bits\n")


@pytest.mark.parametrize(("workers", "kills"), [(1, 40), (2, 10)])
def test_a_preparation_of_clips_killed_fifty_times(preparation: Job, workers: int, kills: int) -> None:
    job = Job((*preparation.arguments, "--workers", workers), preparation.out, preparation.read)
    whole, seconds = timed(job)
    ended = kill_until(job, kills, whole, seconds, f"prepare {workers}")
    sys.stdout.write(f"prepare, {workers} workers: {kills} kills, {ended} of {ended} datasets with the same bits\n")
