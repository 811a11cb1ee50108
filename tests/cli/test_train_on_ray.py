"""`drcli train --engine ray`: which options go together, and that a grid ends as a local one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.command_line import Drcli, Process, RecipeFile, Refused

EPOCHS = 150


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--engine", "rya"), "--engine rya: must be local or ray\n"),
        (("--address", "auto"), "--address auto: belongs to --engine ray; add that, or leave it out\n"),
        (("--cpus-per-run", "2"), "--cpus-per-run 2: belongs to --engine ray; add that, or leave it out\n"),
        (("--gpus-per-run", "0"), "--gpus-per-run 0.0: belongs to --engine ray; add that, or leave it out\n"),
    ],
)
def test_options_of_the_other_engine_are_refused(
    options: tuple[str, ...], message: str, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    assert refused("train", recipe_file(), "--out", tmp_path / "runs", *options, code=2) == message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("option", [("--cpus-per-run", "0"), ("--gpus-per-run", "1.5"), ("--gpus-per-run", "-1")])
def test_a_share_out_of_range_is_bad_usage(option: tuple[str, ...], drcli: Drcli, recipe_file: RecipeFile) -> None:
    assert option[0] in drcli("train", recipe_file(), "--engine", "ray", *option, code=2).stderr


def test_without_ray_the_remedy_is_named(
    refused: Refused, recipe_file: RecipeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    message = refused("train", recipe_file(), "--engine", "ray", code=2)
    assert message == "--engine ray: Ray is not installed; run pip install 'drcli[cluster]'\n"


@pytest.mark.parametrize(
    ("options", "asked", "kind"),
    [
        ((), "--engine ray", Exception),  # as Ray says that a node did not start in time
        (("--address", "10.0.0.1:6379"), "--address 10.0.0.1:6379", ConnectionError),
    ],
)
def test_an_address_without_a_cluster_is_refused(
    options: tuple[str, ...],
    asked: str,
    kind: type[Exception],
    refused: Refused,
    recipe_file: RecipeFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init(**_: object) -> None:
        raise kind("nobody is there\nand more")

    made_up = SimpleNamespace(is_initialized=bool, init=init, exceptions=SimpleNamespace(RayError=OSError))
    monkeypatch.setitem(sys.modules, "ray", made_up)
    message = refused("train", recipe_file(), "--engine", "ray", *options, "--out", tmp_path / "runs", code=2)
    assert message.startswith(f"{asked}: no Ray cluster answers (nobody is there); start one with ray start --head")
    assert not (tmp_path / "runs").exists()


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read standard error up to a line with a text."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if text in line:
            return
    raise AssertionError("".join(said))


def event_files(folder: Path) -> set[Path]:
    """TensorBoard's files of a run; a name ends in the process id of the worker that writes it."""
    return set(folder.glob("tensorboard/*"))


@pytest.mark.slow
@pytest.mark.convolutions  # the workers of Ray do not know the small encoder of the tests
def test_stopped_or_robbed_of_a_worker_a_grid_goes_on(
    process: Process, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'drcli[cluster]'")
    folder = tmp_path / "runs" / "toy" / "joint" / "seed0"
    asked = (
        "train",
        recipe_file(),
        f"training.epochs={EPOCHS}",
        "--engine",
        "ray",
        "--json",
        "--out",
        tmp_path / "runs",
    )

    stopped = process(*asked)
    wait_for(stopped, "joint seed 0, epochs ")
    while stopped.poll() is None and not (folder / "last.pt").exists():  # written while training continues
        time.sleep(0.01)
    stopped.terminate()
    stdout, stderr = stopped.communicate(timeout=60)
    assert (stopped.returncode, stdout) == (130, ""), stderr
    assert stderr.endswith("drcli: stopped; every finished epoch is saved. Repeat the same command to resume\n")
    assert not (folder / "summary.json").exists()

    before = event_files(folder)
    going_on = process(*asked)
    while going_on.poll() is None and event_files(folder) == before:
        time.sleep(0.05)
    assert not (folder / "summary.json").exists()
    os.kill(int(max(event_files(folder)).suffix[1:]), signal.SIGKILL)
    stdout, stderr = going_on.communicate(timeout=120)
    assert going_on.returncode == 0, stderr
    assert [run["run_dir"] for run in json.loads(stdout)["runs"]] == [str(folder)]
    assert "joint seed 0: resumed at epoch " in stderr
    assert [json.loads(line)["epoch"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == list(
        range(EPOCHS)
    )
