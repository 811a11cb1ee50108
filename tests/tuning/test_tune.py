"""`drcli tune` with real runs: what it refuses, what it writes, and that no trial sees the test split."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import ROOT, invoke, start
from support.names import toy_names

from drcli.data import prepared
from drcli.data.prepared import PreparedDataset
from drcli.data.rows import open_array
from drcli.errors import RunError
from drcli.names import METHODS
from drcli.recipe.load import load_recipe
from drcli.tuning import result

pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'drcli[tune]'")

ONE_EPOCH = {"epochs": 1, "batch_size": 32, "optimizer": {"name": "sgd", "lr": 0.05}}


@pytest.fixture(autouse=True)
def _without_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a test of its own, and takes longer than what is tested here."""
    monkeypatch.setattr(result, "write_picture", lambda *_: [])


@pytest.fixture
def recipe(tmp_path: Path, toy_dict: Any) -> Any:
    """Writes `toy.yaml`, one epoch, and returns its path."""

    def write(**blocks: Any) -> Path:
        data = toy_dict(**{"method": "joint", "methods": {"joint": {}, "umt": {}}, "training": ONE_EPOCH, **blocks})
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
        return path

    return write


def tune(path: Path, *options: object, code: int = 0) -> Any:
    """Tune, and return what it printed as JSON."""
    said = invoke("tune", path, "--out", path.parent, "--device", "cpu", "--json", *options, code=code)
    return json.loads(said.stdout) if said.stdout else said.stderr


def lasting(found: dict[str, Any]) -> dict[str, Any]:
    """What was found, without what the clock and the folder say."""
    timed = {"seconds", "teacher_seconds"}
    methods = {}
    for label, one in found["methods"].items():
        history = [{key: value for key, value in trial.items() if key not in timed} for trial in one["history"]]
        methods[label] = {**{key: value for key, value in one.items() if key not in timed}, "history": history}
    return {**{key: found[key] for key in ("recipe", "trials", "seeds", "sampler")}, "methods": methods}


@contextmanager
def closed_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A data set whose test split raises, once it was checked, whoever opens it; yields the splits that were opened."""
    opened: list[str] = []
    whole, array = PreparedDataset.split, open_array

    def split(self: PreparedDataset, name: str) -> Any:
        opened.append(name)
        assert name != "test", "the test split was opened"
        with monkeypatch.context() as within:
            within.setattr(prepared, "open_array", refuse)
            return whole(self, name)

    def refuse(path: Path, *rest: Any) -> Any:
        assert path.parent.name != "test", f"{path} was opened"
        return array(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(PreparedDataset, "split", split)
        yield opened


def test_no_trial_opens_the_test_split_and_the_tuned_recipe_trains(
    recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method and teachers alike; the final run opens it, so that the check could have failed."""
    path = recipe()
    with closed_test(monkeypatch) as opened:
        found = tune(path, "--method", "umt", "--trials", 1, "--tune-seeds", 7)
        assert set(opened) == {"train", "val"}
        with pytest.raises(AssertionError, match="the test split was opened"):
            invoke("train", path, "--seeds", 0, "--out", path.parent / "runs", "--device", "cpu")
    tuned = Path(found["tuned"])
    assert tuned == path.parent / "tuned" / "toy.yaml"
    assert load_recipe(tuned).name == "toy-tuned"
    assert (load_recipe(tuned).method, list(load_recipe(tuned).methods)) == ("umt", ["umt"])  # what was tuned alone
    assert found["methods"]["umt"]["teacher_seconds"] > 0
    study = Path(found["study"])
    assert {file.name for file in study.iterdir() if file.is_file()} > {"study.json", "tables.md", "result.json"}
    shown = json.loads(invoke("train", tuned, "--out", path.parent / "runs", "--device", "cpu", "--json").stdout)
    assert [run["method"] for run in shown["runs"]] == ["unimodal", "unimodal", "umt"]


def test_a_closed_split_is_refused_by_the_data_itself(toy_dataset: PreparedDataset) -> None:
    with pytest.raises(RunError, match="the split test is closed to this run"):
        toy_dataset.without("test").split("test")
    assert toy_dataset.without("test").split("val").num_rows > 0


def test_a_trial_that_diverges_is_recorded_and_the_others_go_on(recipe: Any) -> None:
    path = recipe(search={"training": {"optimizer": {"lr": [0.05, 1e6], "momentum": None}}})
    found = tune(path, "--trials", 5, "--tune-seeds", 7)["methods"]["joint"]
    assert 0 < found["bad_trials"] < 5
    for trial in found["history"]:
        diverges = trial["values"].get("training.optimizer.lr") == 1e6
        assert ("accuracy" in trial) == (not diverges)
        assert ("Lower training.optimizer.lr" in trial.get("failure", "")) == diverges


def test_a_method_all_of_whose_trials_fail_is_named_and_the_command_fails(recipe: Any) -> None:
    path = recipe(training={**ONE_EPOCH, "optimizer": {"name": "sgd", "lr": 1e5}})
    said = invoke("tune", path, "--out", path.parent, "--device", "cpu", "--trials", 1, "--tune-seeds", 7, code=1)
    assert "drcli: joint: all trials failed (1 of 1), and " in said.stderr
    assert "Lower training.optimizer.lr" in said.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("blocks", "options", "message"),
    [
        ({}, ("--tune-seeds", "0,1"), "--tune-seeds 0,1: 0 is one of the recipe's seeds"),
        ({}, ("--tune-seeds", "x"), "--tune-seeds x: must be distinct whole numbers"),
        ({}, ("--sampler", "grid"), "--sampler grid: no such sampler; known: random, tpe."),
        ({"selection": "test"}, (), "selection: test looks at the test split, which a trial must not open; add sel"),
        (
            {"monitor": "test"},
            (),
            "monitor: test looks at the test split, which a trial must not open; add monitor=none",
        ),
        ({}, ("--method", "ogm"), "--method ogm: not in this recipe's methods"),
        ({"search": {"training": {"epochs": 5}}}, (), "search.training.epochs = 5   must be a range such as"),
    ],
)
def test_what_would_be_unfair_or_cannot_be_is_refused_before_any_data_is_read(
    blocks: dict[str, Any], options: tuple[str, ...], message: str, recipe: Any
) -> None:
    path = recipe(**blocks)
    said = tune(path, "dataset.root=nowhere", *options, code=2)
    assert message in said
    assert "Traceback" not in said
    assert not (path.parent / "tuned").exists()


def test_without_optuna_the_remedy_is_named(recipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    message = "drcli: drcli tune: Optuna is not installed; run pip install 'drcli[tune]'\n"
    assert tune(recipe(), code=2) == message


# Slow ones


def blocks_of(name: str) -> dict[str, Any]:
    """Modalities and fusion that a method takes."""
    needed = METHODS.load(name).requires
    fusion = "mmtm" if "gates" in needed else "concat"
    return {"fusion": fusion, "modalities": ("audio", "visual")}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS.names())
def test_no_method_opens_the_test_split_in_a_trial(
    name: str, toy_dict: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = blocks_of(name)
    data = toy_dict(wanted["modalities"], method=name, methods={name: {}}, fusion=wanted["fusion"], training=ONE_EPOCH)
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with closed_test(monkeypatch) as opened:
        found = tune(path, "--trials", 1, "--tune-seeds", 7)
    assert opened
    assert found["methods"][name]["default"] is not None, found


# drcli with the dataset "toy", also in the processes that it starts: those import this file, but do not run it. A Ray
# that is there already is used.
PROGRAM = """
import os
import sys
import time

from support.ray_workers import register_toy

register_toy()
if __name__ == "__main__":
    import torch
    from drcli.__main__ import main
    torch.set_num_threads(1)
    if "ray" in sys.argv:
        import ray
        places = {"PYTHONPATH": os.environ["PYTHONPATH"]}
        hook = {"env_vars": places, "worker_process_setup_hook": register_toy}
        ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, runtime_env=hook)
    main()
"""


@pytest.mark.slow
def test_one_after_another_two_at_once_and_on_ray_give_the_same_table(recipe: Any) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'drcli[cluster]'")
    path = recipe()
    program = path.parent / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    places = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    asked = ("--method", "all", "--trials", 3, "--sampler", "tpe", "--tune-seeds", 7, "--device", "cpu", "--json")
    found = []
    for name, value in (("--jobs", 1), ("--jobs", 2), ("--engine", "ray")):
        command = (sys.executable, program, "tune", path, *asked, name, value, "--out", path.parent / str(value))
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=places)
        assert done.returncode == 0, done.stderr
        assert ("2 runs at once" in done.stderr) == (value == 2)
        found.append(lasting(json.loads(done.stdout)))
    assert found[0] == found[1] == found[2]


def trials_over(process: subprocess.Popen[str], count: int) -> bool:
    """Wait until so many trials are over; whether there were so many before the end."""
    assert process.stderr is not None
    said = (line for line in process.stderr if re.match(r"\[\d+/\d+\] ", line))
    return len(list(itertools.islice(said, count))) == count


@pytest.mark.slow
def test_a_study_killed_at_random_again_and_again_is_the_same_study(recipe: Any) -> None:
    path = recipe()
    asked = ("--method", "all", "--trials", 6, "--tune-seeds", "7,8")
    whole = lasting(tune(path, *asked, "--out", path.parent / "whole"))
    command = ("tune", path, *asked, "--out", path.parent / "killed", "--device", "cpu", "--json")
    draw, kills = random.Random(0), 0
    while True:
        process = start(*command)
        if kills < 6 and trials_over(process, draw.randint(1, 3)):
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
        stdout, stderr = process.communicate(timeout=300)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0, stderr
        break
    assert kills > 1
    assert lasting(json.loads(stdout)) == whole
    with toy_names():
        assert lasting(tune(path, *asked, "--out", path.parent / "killed")) == whole
