"""`drcli reproduce`: says what it will do, does what is missing, writes tables and figures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli.engine.trainer import Trainer

Make = Callable[..., list[object]]


@pytest.fixture
def target(tmp_path: Path, recipe_file: RecipeFile) -> Make:
    """Writes `tiny.yaml` over the toy recipe, and returns the arguments of its command."""

    def write(**blocks: Any) -> list[object]:
        defaults = {"title": "Tiny", "kind": "table", "runs": [{"labels": ["joint", "diagnose_relearn"]}]}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({**defaults, "recipes": [str(recipe_file())], **blocks}, sort_keys=False))
        folders = ("--out", tmp_path / "runs", "--figures", tmp_path / "made")
        return ["reproduce", path, "--device", "cpu", "--seeds", "0,1", *folders]

    return write


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders of the runs that were trained, in order."""
    folders: list[Path] = []
    train = Trainer.train

    def record(self: Trainer) -> None:
        folders.append(self.directory.folder)
        train(self)

    monkeypatch.setattr(Trainer, "train", record)
    return folders


def test_a_table_is_trained_written_and_printed(drcli: Drcli, target: Make, tmp_path: Path) -> None:
    done = drcli(*target())
    assert "4 runs, 0 of them finished; the rest takes a time that is not known yet" in done.stderr
    assert "toy: test scores in per cent" in done.stdout
    made = tmp_path / "made"
    assert sorted(tree(made)) == ["tiny.csv", "tiny.md", "tiny.tex"]
    rows = list(csv.DictReader(io.StringIO((made / "tiny.csv").read_text())))
    assert [row["method"] for row in rows] == ["joint", "diagnose_relearn"]
    for row in rows:
        files = (tmp_path / "runs/toy" / row["method"]).glob("seed*/summary.json")
        scores = [json.loads(path.read_text())["test"]["accuracy"] for path in files]
        assert float(row["accuracy_mean"]) == pytest.approx(sum(scores) / 2)
    assert "| diagnose_relearn | 2 |" in (made / "tiny.md").read_text()
    assert r"diagnose\_relearn & 2 &" in (made / "tiny.tex").read_text()


def test_an_interrupted_target_finishes_only_what_is_missing(
    drcli: Drcli, refused: Refused, target: Make, trained: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = target()
    train = Trainer.train

    def stop_in_the_third(self: Trainer) -> None:
        if len(trained) == 2:
            trained.append(self.directory.folder)
            raise KeyboardInterrupt
        train(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stop_in_the_third)
        assert "Repeat the same command to go on" in refused(*arguments, code=130)
    assert not (tmp_path / "made").exists()
    interrupted = list(trained)
    trained.clear()
    plan = json.loads(drcli(*arguments, "--plan", "--json").stdout)
    missing = [run["run_dir"] for run in plan["targets"][0]["runs"] if not run["finished"]]
    assert len(missing) == 2
    assert plan["seconds"] > 0  # known from the two that are finished
    drcli(*arguments)
    assert list(map(str, trained)) == missing
    assert interrupted[2] == trained[0]
    trained.clear()
    assert "4 runs, all finished" in drcli(*arguments).stderr
    assert trained == []


def test_a_plan_runs_and_writes_nothing(drcli: Drcli, target: Make, trained: list[Path], tmp_path: Path) -> None:
    before = tree(tmp_path)
    shown = drcli(*target(seconds_per_epoch={"toy": 60}), "--plan").stdout
    assert "4 runs, 0 of them finished; the rest takes about 8:00" in shown  # 4 runs of 2 epochs
    assert trained == []
    assert set(tree(tmp_path)) - set(before) == {"tiny.yaml", "toy.yaml"}


def test_variants_have_folders_of_their_own_and_make_a_heat_map(drcli: Drcli, target: Make, tmp_path: Path) -> None:
    key = "methods.diagnose_relearn"
    grid = {"lambda": {"key": f"{key}.lambda", "values": [0, 3]}, "every": {"key": f"{key}.every", "values": [1]}}
    runs = [{"labels": ["joint"]}, {"labels": ["diagnose_relearn"], "grid": grid}]
    found = json.loads(drcli(*target(kind="figure", draw="sensitivity", runs=runs), "--json").stdout)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "toy",
        "toy-lambda0-every1",
        "toy-lambda3-every1",
    ]
    (made,) = found["targets"]
    assert made["files"] == [str(tmp_path / "made/tiny.svg"), str(tmp_path / "made/tiny.png")]
    assert (tmp_path / "made/tiny.svg").read_bytes().startswith(b"<?xml")
    assert (tmp_path / "made/tiny.png").read_bytes().startswith(b"\x89PNG")
    rows = made["rows"]
    assert rows["toy-lambda0-every1"][0]["accuracy_mean"] == rows["toy"][0]["accuracy_mean"]  # lambda 0 is joint


def test_data_of_other_settings_lies_beside(drcli: Drcli, target: Make, tmp_path: Path) -> None:
    variant = {"name": "few", "set": ["dataset.prepare.rows=30"], "data": "30"}
    runs = [{"labels": ["joint"], "variants": [variant]}]
    drcli(*target(runs=runs), "--data", tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["toy-30"]
    assert (tmp_path / "runs/toy-few/joint/seed1/summary.json").exists()


def test_methods_that_a_recipe_lacks_are_left_out_with_a_note(drcli: Drcli, target: Make, tmp_path: Path) -> None:
    drcli(*target(runs=[{"labels": ["joint", "mla", "umt"]}]))
    note = "left out, since the recipe toy lacks them: mla, umt"
    assert note in (tmp_path / "made/tiny.md").read_text()


def test_another_dataset_makes_a_file_of_its_own(
    drcli: Drcli, target: Make, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    drcli(*target(recipes=["cremad"]), "--dataset", recipe_file(), "training.epochs=1")
    assert (tmp_path / "made/tiny-toy.md").exists()


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"runs": [{"labels": ["mla"]}]}, "none of its methods is in the recipe; left out"),
        ({"recipes": ["digit"]}, "unknown recipe 'digit'"),
        ({"kind": "picture"}, "kind: "),
        ({"kind": "figure"}, "draw: a figure says which it is"),
        ({"runs": [{"labels": ["joint"], "variants": [{"set": ["seeds=[1]"]}]}]}, "needs a name"),
        ({"sedes": [1]}, "sedes: "),
    ],
)
def test_a_target_that_cannot_be_is_refused(
    refused: Refused, target: Make, blocks: dict[str, Any], message: str
) -> None:
    assert message in refused(*target(**blocks), code=2)


def test_an_unknown_name_is_refused_with_the_nearest(refused: Refused) -> None:
    assert "Did you mean table1?" in refused("reproduce", "tabel1", code=2)
    assert "no such file" in refused("reproduce", "none/such.yaml", code=2)


def test_a_figure_whose_runs_lack_something_says_what(refused: Refused, target: Make) -> None:
    message = refused(*target(kind="figure", draw="learning", runs=[{"labels": ["joint"]}]), code=3)
    assert "diagnosis.monitor_every" in message
