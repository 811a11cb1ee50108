"""Ctrl-C, SIGTERM and a second process in the same run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from support.command_line import Drcli, Process, RecipeFile, tree

from drcli import checkpoint

EPOCHS = 40


def wait_for_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    """Read standard error up to the line of an epoch, then stop the process in its tracks."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "%" in line and line.split()[0].rstrip("*") == str(epoch):  # not "1 thread (1 of 2 cores free)"
            os.kill(process.pid, signal.SIGSTOP)
            return
    raise AssertionError("".join(said))


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_a_run_that_can_go_on(
    number: signal.Signals, process: Process, drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    arguments = ("train", recipe_file(), f"training.epochs={EPOCHS}", "--out", out)
    started = process(*arguments)
    wait_for_epoch(started, 1)
    folder = out / "toy" / "joint" / "seed0"
    refuses_a_second_process(drcli, arguments, folder)
    os.kill(started.pid, number)
    os.kill(started.pid, signal.SIGCONT)
    stdout, stderr = started.communicate(timeout=60)
    assert started.returncode == 130, stderr
    assert stdout == ""
    assert stderr.endswith("drcli: stopped; every finished epoch is saved. Repeat the same command to resume\n")
    assert "Traceback" not in stderr
    assert not (folder / "summary.json").exists()
    goes_on(drcli, arguments, folder)


def refuses_a_second_process(drcli: Drcli, arguments: tuple[object, ...], folder: Path) -> None:
    before = tree(folder)
    message = drcli(*arguments, code=1).stderr
    assert f"drcli: {folder}: another process is training here; wait for it, or choose another --out" in message
    assert tree(folder) == before
    drcli(*arguments, "--fresh", code=1)
    assert tree(folder) == before


def goes_on(drcli: Drcli, arguments: tuple[object, ...], folder: Path) -> None:
    done = int(checkpoint.load(folder / "last.pt")["epoch"]) + 1
    assert 1 <= done < EPOCHS
    said = drcli(*arguments).stderr
    assert f"resumed at epoch {done}" in said
    epochs = [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert epochs == list(range(EPOCHS))
    assert (folder / "summary.json").is_file()


def test_ctrl_c_outside_of_training_is_one_line(drcli: Drcli, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("drcli.commands.show.find_recipe", stop)
    assert drcli("show", "digits", code=130).stderr == "drcli: stopped\n"


def test_training_leaves_the_handler_of_sigterm_as_it_was(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    drcli("train", recipe_file(), "training.epochs=1", "--out", tmp_path)
    assert signal.getsignal(signal.SIGTERM) is before
