"""Runs that fail while they work: a full disk, a loss that is not finite, a run directory in use."""

from __future__ import annotations

import errno
import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

import pytest
from support.command_line import PROGRAM, Drcli, Process, RecipeFile, tree

from drcli import checkpoint
from drcli.files import locked, replacing
from drcli.names import METHODS


def fill_disk(patch: pytest.MonkeyPatch, *, after: int) -> None:
    """Let the first `after` files reach the disk, and no other."""
    sync, done = os.fsync, []

    def full(descriptor: int) -> None:
        done.append(descriptor)
        if len(done) > 2 * after:  # each file costs two: itself and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    patch.setattr(os, "fsync", full)


# environment.json and recipe.yaml, then two empty logs, then one or two checkpoints an epoch.
@pytest.mark.parametrize("after", [0, 1, 3, 4, 5, 6])
def test_a_full_disk_is_said_plainly_and_what_was_there_stays_whole(
    after: int, drcli: Drcli, recipe_file: RecipeFile, finished: Path, tmp_path: Path
) -> None:
    recipe, out = recipe_file(), tmp_path / "runs"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, after=after)
        result = drcli("train", recipe, "--out", out, code=1)
    assert result.stdout == ""
    assert "no space left on the device: free some and repeat the command" in result.stderr
    assert "Traceback" not in result.stderr
    folder = out / "toy" / "joint" / "seed0"
    assert not [path for path in folder.iterdir() if path.name.endswith(".tmp")]
    for path in folder.glob("*.pt"):
        checkpoint.load(path)
    again = json.loads(drcli("train", recipe, "--out", out, "--json").stdout)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert again["runs"][0]["test"] == json.loads((finished / "summary.json").read_text())["test"]
    same = checkpoint.load(folder / "last.pt")
    for name, tensor in checkpoint.load(finished / "last.pt")["model"].items():
        assert same["model"][name].equal(tensor)


def test_a_full_disk_keeps_the_checkpoint_of_the_epoch_before(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe, written = recipe_file(selection="last"), []
    with pytest.MonkeyPatch.context() as patch:

        def begun(path: Path) -> AbstractContextManager[IO[bytes]]:
            written.append(path.name)
            if written == ["checkpoint.pt", "last.pt", "checkpoint.pt"]:
                fill_disk(patch, after=0)
            return replacing(path)

        patch.setattr(checkpoint, "replacing", begun)
        result = drcli("train", recipe, "--out", tmp_path, code=1)
    folder = tmp_path / "toy" / "joint" / "seed0"
    assert checkpoint.load(folder / "checkpoint.pt")["epoch"] == 0
    assert checkpoint.load(folder / "last.pt")["epoch"] == 0
    assert f"{folder / 'checkpoint.pt'} holds epoch 0" in result.stderr


def test_a_loss_that_is_not_finite_names_epoch_step_and_loss(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    result = drcli(
        "train",
        recipe_file(),
        "training.optimizer.lr=1e6",
        "training.optimizer.weight_decay=1e6",
        "--out",
        tmp_path,
        code=1,
    )
    folder = tmp_path / "toy" / "joint" / "seed0"
    message = result.stderr.partition("drcli: ")[2]
    assert re.match(rf"{folder}: epoch 0, step [123]: loss_", message)
    assert "the run stops. Lower training.optimizer.lr, or set training.clip_grad_norm" in message
    assert "no epoch was finished, so there is no checkpoint" in message
    assert result.stdout == ""
    assert not (folder / "checkpoint.pt").exists()
    assert not (folder / "summary.json").exists()


def test_a_run_that_diverges_later_keeps_its_last_good_checkpoint(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    with METHODS.registered("later", "support.failing:DivergesLater"):
        recipe = recipe_file(selection="last", method="later", methods={"later": {}})
        message = drcli("train", recipe, "--out", tmp_path, code=1).stderr.partition("drcli: ")[2]
    folder = tmp_path / "toy" / "later" / "seed0"
    assert message.startswith(f"{folder}: epoch 1, step ")
    assert f"{folder / 'checkpoint.pt'} holds epoch 0" in message
    assert checkpoint.load(folder / "checkpoint.pt")["epoch"] == 0
    assert checkpoint.load(folder / "last.pt")["epoch"] == 0


def test_runs_that_do_not_fail_are_still_in_the_result(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    recipe, busy = recipe_file(), tmp_path / "toy" / "joint" / "seed1"
    busy.mkdir(parents=True)
    arguments = ("training.epochs=1", "--seeds", "0,1,2", "--out", tmp_path)
    with locked(busy):
        result = drcli("train", recipe, *arguments, "--json", code=1)
    found = json.loads(result.stdout)
    assert [run["seed"] for run in found["runs"]] == [0, 2]
    assert found["summary"][0]["n"] == 2
    assert found["failed"] == [f"{busy}: another process is training here; wait for it, or choose another --out"]
    assert result.stderr.endswith(f"drcli: {found['failed'][0]}\n")
    assert list(tree(busy)) == [".lock"]


def test_a_full_disk_while_preparing_leaves_no_half_of_a_dataset(
    drcli: Drcli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = drcli("prepare", "digits", "--limit", "100", "--out", tmp_path / "digits", code=1)
    assert "drcli: " in result.stderr
    assert "disk is full; free some space" in result.stderr
    assert list(tmp_path.iterdir()) == []


# No file may grow beyond 4 kB while drcli runs; what the test runner writes afterwards may.
LIMITED = """
import atexit, resource
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
def test_a_file_that_the_system_refuses_for_real_is_an_error_of_one_message(
    process: Process, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    started = process("train", recipe_file(), "--out", out, program=LIMITED + PROGRAM)
    stdout, stderr = started.communicate(timeout=120)
    assert started.returncode == 1, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "checkpoint.pt: cannot be written (File too large)" in stderr
    assert not list(out.rglob("*.pt"))
    assert not list(out.rglob("*.tmp"))
