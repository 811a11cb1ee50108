"""`drcli train --devices` and under torchrun: one result of several processes, one message, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import PROGRAM, ROOT, Drcli, Process, RecipeFile, Refused
from support.records import CLOCK

from drcli.files import locked

VIT = {"backbone": "vit", "patch": 4, "dim": 8, "heads": 2, "layers": 1, "feedforward": 16}
LONG = {"epochs": 5000, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}


@pytest.fixture
def transformers(recipe_file: RecipeFile) -> Callable[..., Path]:
    """Writes the recipe with encoders that have no batch normalisation, but dropout."""

    def write(**blocks: Any) -> Path:
        path = recipe_file(**blocks)
        recipe = {**yaml.safe_load(path.read_text()), "modalities": {"audio": VIT, "visual": VIT}}
        path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "toy" / "joint" / "seed0"


def result(stdout: str) -> dict[str, Any]:
    """What a run's summary says, without the clock."""
    (run,) = json.loads(stdout)["runs"]
    return {key: value for key, value in run.items() if key not in {*CLOCK, "run_dir", "checkpoint"}}


@pytest.mark.slow
def test_two_processes_return_one_result_and_tell_of_it_once(
    transformers: Callable[..., Path], drcli: Drcli, tmp_path: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The processes write to the terminal themselves."""
    args = ("train", transformers(), "--out", tmp_path / "runs", "--device", "cpu", "--json")
    first = drcli(*args, "--devices", 2)
    told = capfd.readouterr()
    assert told.err.count("joint seed 0: 2 epochs") == told.err.count("joint seed 0: test accuracy") == 1
    assert told.out == ""
    assert (folder / "tensorboard").is_dir()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["devices"] == 2
    assert environment["command"] == sys.argv
    assert result(drcli(*args).stdout) == result(first.stdout)  # finished: shown by one


def test_what_cannot_be_shared_is_refused_before_a_process_starts(
    transformers: Callable[..., Path], recipe_file: RecipeFile, refused: Refused, tmp_path: Path
) -> None:
    common = ("--out", tmp_path / "runs", "--device", "cpu", "--devices", 2)
    assert "--devices 2: belongs to --engine local" in refused(
        "train", transformers(), *common, "--engine", "ray", code=2
    )
    message = refused("train", recipe_file(), *common, code=2)
    assert message.startswith("modalities.audio.backbone = tiny: has batch normalisation")
    assert not (tmp_path / "runs").exists()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def end_of(pids: list[int]) -> bool:
    """Whether all processes are gone, within a while."""
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_a_stopped_training_leaves_no_process_and_no_lock(
    sent: signal.Signals, transformers: Callable[..., Path], process: Process, tmp_path: Path, folder: Path
) -> None:
    args = ("train", transformers(training=LONG), "--out", tmp_path / "runs", "--device", "cpu", "--devices", 2)
    running = process(*args)
    wait_for(folder / "last.pt")
    workers = children(running.pid)
    assert len(workers) >= 2
    for pid in (running.pid, *workers) if sent == signal.SIGINT else (running.pid,):  # as a terminal sends it
        os.kill(pid, sent)
    _, told = running.communicate(timeout=60)
    assert end_of(workers)
    with locked(folder):
        pass
    if sent != signal.SIGKILL:
        assert running.returncode == 130
        assert told.count("drcli: stopped; every finished epoch is saved") == 1
        assert "Traceback" not in told


@pytest.mark.slow
def test_torchrun_trains_what_devices_does(transformers: Callable[..., Path], drcli: Drcli, tmp_path: Path) -> None:
    recipe, program = transformers(), tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program))
    args = ("train", recipe, "--device", "cpu", "--json", "--out")
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, *launcher, *map(str, args), str(tmp_path / "launched")],
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result(done.stdout) == result(drcli(*args, tmp_path / "started", "--devices", 2).stdout)
    assert done.stderr.count("joint seed 0: test accuracy") == 1
