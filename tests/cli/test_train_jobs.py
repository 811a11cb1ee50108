"""`drcli train --jobs`: which options go together, and that nothing is left running or lost when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import ROOT, Drcli, RecipeFile, Refused
from support.training import CPU

from drcli import checkpoint
from drcli.commands import train as command
from drcli.engine.cores import Sharing
from drcli.engine.grid import run_grid
from drcli.files import locked
from drcli.watch.events import Listener

LONG = {"epochs": 5000, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}

# drcli with the dataset "toy", also in the processes that it starts: those import this file, but do not run it.
PROGRAM = """
import signal
from support.ray_workers import register_toy

register_toy()
if __name__ == "__main__":
    import torch
    from drcli.__main__ import main
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    main()
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "ray"), "--jobs 2: belongs to --engine local; leave one of them out\n"),
        (("--devices", "2"), "--jobs 2: --devices 2 gives all to one run; leave one of them out\n"),
    ],
)
def test_what_contradicts_several_runs_at_once_is_refused(
    options: tuple[str, ...], message: str, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    assert refused("train", recipe_file(), "--out", tmp_path / "runs", "--jobs", 2, *options, code=2) == message
    assert not (tmp_path / "runs").exists()


def test_one_at_a_time_trains_in_this_process(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "run_jobs", None)
    done = drcli("train", recipe_file(), "--seeds", "0,1", "--jobs", 1, "--out", tmp_path / "runs", "--json")
    assert [run["seed"] for run in json.loads(done.stdout)["runs"]] == [0, 1]
    assert "at once" not in done.stderr


def test_how_many_pay_is_said_in_one_line(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many runs as there are; how many are trained here is what the engine is told."""
    asked: list[tuple[int | None, int, int | None]] = []

    def share_out(jobs: int | None, device: object, runs: int, threads: int | None) -> Sharing:
        asked.append((jobs, runs, threads))
        return Sharing(2, 1)

    monkeypatch.setattr(command, "share_out", share_out)
    monkeypatch.setattr(
        command,
        "run_jobs",
        lambda runs, dataset, **_: run_grid(runs, dataset, device=CPU, listener=Listener()),
    )
    common = ("train", recipe_file(), "--seeds", "0,1", "--out", tmp_path / "runs")
    assert "2 runs at once, with 1 thread each; --jobs N trains N at once\n" in drcli(*common).stderr
    assert "at once" not in drcli(*common).stderr  # both are finished
    said = drcli(*common, "--jobs", 2, "--threads", 1, "--fresh").stderr
    assert "2 runs at once, with 1 thread each\n" in said
    assert asked == [(None, 2, None), (2, 2, 1)]


def test_how_many_threads_one_run_has_is_said_first_and_noted(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    common = ("train", recipe_file(), "--seeds", "0", "--out", tmp_path / "runs")
    told = drcli(*common).stderr.splitlines()
    assert told[0] == "1 thread (1 of 1 core free); --threads N takes N"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert drcli(*common, "--threads", 2, "--fresh").stderr.splitlines()[0] == "2 threads"
    environment = json.loads((tmp_path / "runs" / "toy" / "joint" / "seed0" / "environment.json").read_text())
    assert environment["threads"] == 2


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def wait_until(happened: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert happened()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sent: sent.name)
def test_a_stopped_grid_leaves_no_process_and_can_go_on(
    sent: signal.Signals, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    arguments = ("train", recipe_file(training=LONG), "--seeds", "0,1", "--jobs", "2", "--out", tmp_path / "runs")
    folders = [tmp_path / "runs" / "toy" / "joint" / f"seed{seed}" for seed in (0, 1)]
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    running = subprocess.Popen(
        [sys.executable, str(program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": places},
    )
    try:
        wait_until(lambda: all((folder / "last.pt").exists() for folder in folders))
        workers = children(running.pid)
        assert len(workers) >= 2
        for pid in (running.pid, *workers) if sent == signal.SIGINT else (running.pid,):  # as a terminal sends it
            os.kill(pid, sent)
        _, told = running.communicate(timeout=60)
    finally:
        running.kill()
        running.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 20)
    for folder in folders:
        with locked(folder):
            kept, logged = checkpoint.load(folder / "last.pt")["epoch"], (folder / "metrics.jsonl").read_text()
        lost = len(logged.splitlines()) - 1 - kept
        # A log line comes before its last.pt, and a killed process loses the two that are being written.
        assert 0 <= lost <= (2 if sent == signal.SIGKILL else 1)
    if sent != signal.SIGKILL:
        assert running.returncode == 130
        assert told.count("drcli: stopped; every finished epoch is saved") == 1
        assert "Traceback" not in told
