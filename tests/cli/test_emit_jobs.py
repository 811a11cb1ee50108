"""`drcli train --emit-jobs`: lines that train the grid, and scripts that SLURM understands."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
from support.command_line import Drcli, RecipeFile, Refused
from support.training import log

METHODS = {"joint": {}, "ogm": {"alpha": 0.3}, "uni_pretrained": {}}


@pytest.fixture
def recipe(recipe_file: RecipeFile) -> Path:
    """Six runs, of which two start from four others; unimodal training is not among the recipe's methods."""
    return recipe_file(methods=METHODS)


@pytest.fixture
def emitted(recipe: Path, drcli: Drcli, tmp_path: Path) -> Path:
    """The folder of the files, with a blank and a per cent sign in its name."""
    folder = tmp_path / "jobs of 100%"
    common = ("training.epochs=1", "--method", "joint,uni_pretrained,ogm", "--seeds", "0,1", "--device", "cpu")
    said = drcli("train", recipe, *common, "--out", tmp_path / "runs", "--emit-jobs", folder)
    assert (
        said.stdout.splitlines()[0]
        == "10 runs, in this order: 4 that others start from, 4 alone, 2 that start from others"
    )
    assert not (tmp_path / "runs").exists()
    return folder


def words(folder: Path) -> list[list[str]]:
    """The arguments of drcli, line by line."""
    lines = [shlex.split(line) for line in (folder / "jobs.txt").read_text().splitlines()]
    assert {tuple(line[1:3]) for line in lines} == {("-m", "drcli")}
    return [line[3:] for line in lines]


def test_each_line_trains_one_run_and_all_are_the_grid(recipe: Path, drcli: Drcli, tmp_path: Path) -> None:
    common = ("train", recipe, "training.epochs=1", "--methods", "joint,uni_pretrained", "--seed", "0", "--out")
    drcli(*common, tmp_path / "runs", "--emit-jobs", tmp_path / "jobs")
    runs, done = tmp_path / "runs" / "toy", []
    for line in words(tmp_path / "jobs"):
        before = set(runs.rglob("summary.json"))
        drcli(*line)
        (new,) = set(runs.rglob("summary.json")) - before
        done.append(new.parent.relative_to(runs).as_posix())
    assert done == ["unimodal/audio/seed0", "unimodal/visual/seed0", "joint/seed0", "uni_pretrained/seed0"]
    drcli(*common, tmp_path / "grid")
    for path in done:
        assert log(runs / path / "metrics.jsonl") == log(tmp_path / "grid" / "toy" / path / "metrics.jsonl")
    assert drcli(*common, tmp_path / "runs").stderr.count("stored result") == 4


def test_a_task_of_the_array_executes_its_line(emitted: Path, tmp_path: Path) -> None:
    (emitted / "jobs.txt").write_text("echo one\nprintf '%s|' 'a b' '$HOME' \"$OMP_NUM_THREADS\"\n")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "3"}
    done = subprocess.run(["bash", emitted / "array.sh"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "a b|$HOME|3|"
    options = [line for line in (emitted / "array.sh").read_text().splitlines() if line.startswith("#SBATCH")]
    assert "#SBATCH --output=" + str(emitted).replace(" ", "\\ ").replace("%", "%%") + "/%A_%a.log" in options
    assert not any("gpus" in line for line in options)


def test_what_starts_from_others_waits_for_them_alone(emitted: Path, tmp_path: Path) -> None:
    """A made-up sbatch notes what it is called with; the first call is the job 41."""
    noted, sbatch = tmp_path / "noted", tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f'#!/bin/bash\necho "$@" >> {noted}\necho "$((40 + $(wc -l < {noted})));cluster"\n')
    sbatch.chmod(0o755)
    environment = {**os.environ, "PATH": f"{sbatch.parent}:{os.environ['PATH']}"}
    subprocess.run(["bash", emitted / "submit.sh", "--time=60"], env=environment, capture_output=True, check=True)
    array = emitted / "array.sh"
    assert noted.read_text().splitlines() == [
        f"--parsable --array=1-4 --time=60 {array}",
        f"--parsable --array=5-8 --time=60 {array}",
        f"--parsable --dependency=afterany:41 --array=9-10 --time=60 {array}",
    ]


def test_only_what_is_left_is_written(recipe: Path, drcli: Drcli, tmp_path: Path) -> None:
    common = ("train", recipe, "training.epochs=1", "--out", tmp_path / "runs", "--method")
    drcli(*common, "joint")
    said = drcli(*common, "joint,ogm", "--emit-jobs", tmp_path / "jobs", "--devices", 2).stdout
    assert said.startswith("1 run, in this order: 0 that others start from, 1 alone, 0 that start from others")
    assert "teachers" not in (tmp_path / "jobs" / "submit.sh").read_text()
    (line,) = words(tmp_path / "jobs")
    assert line[-2:] == ["--devices", "2"]
    said = drcli(*common, "joint", "--emit-jobs", tmp_path / "none").stdout
    assert said == "1 run, finished: nothing was written\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fresh",), "--fresh: each line would delete runs that others start from"),
        (("--jobs", "2"), "--jobs 2: --emit-jobs makes a job of each run"),
        (("--engine", "ray"), "--engine ray: --emit-jobs makes a job of each run"),
        (("--plan",), "jobs: not with --plan; leave one of them out"),
        (("--json",), "jobs: not with --json; leave one of them out"),
        (("--columns", "nonsense"), "--columns nonsense: no such column"),
        (("--method", "unimodal:audoi"), "--method unimodal:audoi: "),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_makes_no_jobs_is_refused(
    options: tuple[str, ...], message: str, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe = recipe_file(methods={**METHODS, "unimodal": {}})
    assert message in refused("train", recipe, "--emit-jobs", tmp_path / "jobs", *options, code=2)
    assert not (tmp_path / "jobs").exists()
