"""`drcli train --plan`, names of options, and what a shell completes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Drcli, RecipeFile, Refused, tree
from typer.testing import CliRunner

from drcli.cli import app


def plan_of(drcli: Drcli, *arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(drcli("train", *arguments, "--plan", "--json").stdout)
    return found


def test_a_plan_names_every_run_and_leaves_everything_as_it_is(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    recipe = recipe_file(methods={"joint": {}, "uni_pretrained": {}})
    common = (recipe, f"dataset.root={tmp_path / 'nowhere'}", "--out", tmp_path / "runs", "--method", "uni_pretrained")
    found = plan_of(drcli, *common)
    assert [(run["method"], run.get("modality"), run["epochs"]) for run in found["runs"]] == [
        ("unimodal", "audio", 2),
        ("unimodal", "visual", 2),
        ("uni_pretrained", None, 2),
    ]
    assert found["runs"][2]["teachers"] == [run["run_dir"] for run in found["runs"][:2]]
    assert found["seconds"] is None
    shown = drcli("train", *common, "--plan").stdout
    assert "unimodal:audio, unimodal:visual" in shown
    assert "3 runs, 0 of them finished; the rest takes 6 epochs" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"toy.yaml"}


def test_what_is_done_counts_and_tells_how_long_the_rest_takes(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    common = (recipe_file(), "--out", tmp_path / "runs", "--seeds")
    drcli("train", *common, "0")
    before = tree(tmp_path / "runs")
    found = plan_of(drcli, *common, "0,1")
    assert [(run["finished"], run["epochs_done"]) for run in found["runs"]] == [(True, 2), (False, 0)]
    (seconds,) = (run["seconds"] for run in found["runs"] if not run["finished"])
    summary = json.loads((tmp_path / "runs" / "toy" / "joint" / "seed0" / "summary.json").read_text())
    assert seconds == pytest.approx(summary["seconds"])  # two epochs, too
    assert found["seconds"] == seconds
    assert re.search(r"joint\s.*0,1\s.*1 / 2\s.*2 / 4", drcli("train", *common, "0,1", "--plan").stdout)
    assert tree(tmp_path / "runs") == before


def test_a_run_of_another_recipe_is_in_the_way(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    common = (recipe_file(), "--out", tmp_path / "runs")
    drcli("train", *common)
    found = plan_of(drcli, *common, "training.batch_size=20", "--seeds", "0,1")
    assert [run["seed"] for run in found["runs"]] == [1]
    (blocked,) = found["blocked"]
    assert blocked.endswith("holds a run of another recipe (training.batch_size: 16 in the folder, 20 requested)")
    shown = drcli("train", *common, "training.batch_size=20", "--plan").stdout
    assert "holds a run of another recipe" in shown
    assert "nothing can be trained; delete these runs, or choose another --out or name=NAME" in shown
    assert "finished" not in shown.splitlines()[-1]


def test_a_plan_refuses_columns_that_no_table_has(refused: Refused, recipe_file: RecipeFile) -> None:
    assert "--columns nonsense: no such column" in refused(
        "train", recipe_file(), "--plan", "--columns", "nonsense", code=2
    )


def test_a_changed_value_is_refused_with_a_name_that_keeps_both(
    drcli: Drcli, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    common = ("train", recipe_file(), "--out", tmp_path / "runs")
    drcli(*common)
    changed = ("training.optimizer.lr=0.1", "training.clip_grad_norm=1.5", "corrupt.audio={snr_db: 0}")
    name = re.search(r"or name=(\S+)\n", refused(*common, *changed, code=2))
    assert name is not None
    assert name.group(1) == "toy-audio-clip_grad_norm1.5-lr0.1"
    drcli(*common, *changed, f"name={name.group(1)}")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"toy", name.group(1)}


def test_one_modality_of_a_label_can_be_trained(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    recipe = recipe_file(methods={"joint": {}, "unimodal": {}, "uni_pretrained": {}})

    def names(asked: str) -> list[str]:
        found = plan_of(drcli, recipe, "--out", tmp_path / "runs", "--method", asked)
        return [f"{run['method']}:{run.get('modality', '')}" for run in found["runs"]]

    assert names("unimodal:audio") == ["unimodal:audio"]
    assert names("unimodal:visual,joint") == ["unimodal:visual", "joint:"]
    assert names("unimodal:visual,unimodal") == ["unimodal:audio", "unimodal:visual"]
    assert names("unimodal:visual,uni_pretrained") == ["unimodal:audio", "unimodal:visual", "uni_pretrained:"]


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("lr=0.1", "Did you mean training.optimizer.lr?"),
        ("training.lr=0.1", "Did you mean training.optimizer.lr?"),
        ("training.momentum=0.9", "Did you mean training.optimizer.momentum?"),
        ("epochs=3", "Did you mean training.epochs?"),
        ("optimizer.lr=0.1", "Did you mean training.optimizer?"),
        ("training.epcohs=3", "Did you mean epochs?"),
    ],
)
def test_a_key_in_the_wrong_block_is_pointed_to_the_right_one(
    given: str, hint: str, refused: Refused, recipe_file: RecipeFile
) -> None:
    message = refused("show", recipe_file(), given, code=2)
    assert message.count("Did you mean") == 1
    assert message.endswith(f"{hint}\n")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("drcli trai", ["train"]),
        ("drcli train digits_t", ["digits_transformer"]),
        ("drcli train digits --method joint,uni_", ["joint,uni_frozen", "joint,uni_pretrained"]),
    ],
)
def test_a_shell_completes_commands_recipes_and_methods(typed: str, offered: list[str]) -> None:
    environment = {"_DRCLI_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = CliRunner().invoke(app, [], prog_name="drcli", env=environment)
    assert set(done.stdout.split()) <= set(offered)
    assert done.stdout.split()
