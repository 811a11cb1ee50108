"""Grids of runs: one comparison in every command, and a table whatever ends single runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from support.command_line import Drcli, RecipeFile, Refused

from drcli.names import METHODS

FAILING = {"fails": "FailsInSetup", "diverges": "Diverges", "killed": "Killed", "exits": "Exits"}
TRAINED_TWICE = {"joint_warm": {"method": "joint"}, "joint": {}, "ogm": {}}


@pytest.fixture(autouse=True)
def failing() -> Iterator[None]:
    """Adds the methods that fail to the registry."""
    with ExitStack() as stack:
        for name, target in FAILING.items():
            stack.enter_context(METHODS.registered(name, f"support.failing:{target}"))
        yield


def test_train_and_report_print_the_same_reference_difference_and_interval(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    """`joint_warm` comes first, and differences are to `joint`, in both."""
    arguments = ("train", recipe_file(methods=TRAINED_TWICE), "--method", "all", "--seeds", "0,1,2")
    shown = drcli(*arguments, "--out", tmp_path / "runs").stdout
    rows = {
        row["method"]: row
        for row in json.loads(drcli(*arguments, "--out", tmp_path / "runs", "--json").stdout)["summary"]
    }
    assert rows["ogm"]["reference"] == rows["joint_warm"]["reference"] == "joint"
    assert rows["joint"]["reference"] is None
    reported = drcli("report", tmp_path / "runs", "--format", "markdown").stdout
    low, high = rows["ogm"]["difference_ci95"]
    said = f"{100 * rows['ogm']['difference_to_joint']:+z.1f} [{100 * low:+z.1f}, {100 * high:+z.1f}]"
    for text in (shown, reported):
        assert "minus joint" in text
        (row,) = (line for line in text.splitlines() if re.match(r"[│|] ogm ", line))
        assert said in row


def test_the_reference_can_be_chosen(drcli: Drcli, refused: Refused, recipe_file: RecipeFile, tmp_path: Path) -> None:
    arguments = ("train", recipe_file(methods=TRAINED_TWICE), "--method", "joint_warm,joint", "--out", tmp_path)
    message = refused(*arguments, "--reference", "ogm", code=2)
    assert message.startswith("--reference ogm: is not among the runs of this command; known: joint_warm, joint.")
    assert list(tmp_path.glob("toy/*")) == []  # before anything is trained
    shown = drcli(*arguments, "--reference", "joint_warm").stdout
    assert "minus joint_warm" in shown


def test_whatever_ends_runs_of_three_recipes_the_finished_ones_are_in_the_tables(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    """The second run fails in its setup, the fourth diverges, and the last one is stopped from outside."""
    recipes = []
    for name, label in {"one": "fails", "two": "diverges", "three": "killed"}.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(recipe_file(name=name, methods={"joint": {}, label: {}}).read_text())
        recipes.append(str(path))
    target = tmp_path / "target.yaml"
    labels = ["joint", "fails", "diverges", "killed"]
    target.write_text(yaml.safe_dump({"title": "T", "kind": "table", "recipes": recipes, "runs": [{"labels": labels}]}))
    folders = ("--out", tmp_path / "runs", "--figures", tmp_path / "made")
    done = drcli("reproduce", target, "--device", "cpu", "--seeds", "0", *folders, code=130)
    for name in ("one", "two", "three"):
        assert f"{name} (dataset toy): test scores in per cent" in done.stdout
    assert done.stdout.count("│ joint ") == 3
    assert "ZeroDivisionError in " in done.stderr
    assert "loss_joint is nan" in done.stderr
    assert done.stderr.endswith("Repeat the same command to resume\n")
    assert "Traceback" not in done.stderr


def test_a_plug_in_that_ends_the_process_ends_its_run(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    recipe = recipe_file(methods={"exits": {}, "joint": {}})
    done = drcli("train", recipe, "--method", "all", "--seeds", "0", "--out", tmp_path, code=1)
    assert "│ joint " in done.stdout
    assert "exits" not in done.stdout
    assert "toy/exits/seed0: SystemExit in " in done.stderr


def test_the_failures_stand_below_the_table(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    recipe = recipe_file(methods={"fails": {}, "joint": {}})
    done = drcli("train", recipe, "--method", "all", "--seeds", "0,1", "--out", tmp_path, code=1)
    *_, first, second = done.stderr.splitlines()
    assert first.startswith(f"drcli: {tmp_path}/toy/fails/seed0: ZeroDivisionError")
    assert second.startswith(f"{tmp_path}/toy/fails/seed1: ZeroDivisionError")
