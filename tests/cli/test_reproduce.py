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
from support.command_line import Drcli, Process, RecipeFile, Refused, tree

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
    assert "4 runs, 0 of them finished; the rest takes 8 epochs; the time per epoch is known after" in done.stderr
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
    assert r"D\&R & 2 &" in (made / "tiny.tex").read_text()


def test_an_interrupted_target_finishes_only_what_is_missing(
    drcli: Drcli, target: Make, trained: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
        stopped = drcli(*arguments, code=130)
    assert stopped.stderr.endswith("Repeat the same command to resume\n")
    assert "not written, since runs are missing" in stopped.stdout  # the table of the two that are finished
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


def test_what_is_in_the_way_shows_before_anything_is_trained(
    drcli: Drcli, refused: Refused, target: Make, recipe_file: RecipeFile, trained: list[Path], tmp_path: Path
) -> None:
    options = ("--method", "diagnose_relearn", "--seeds", "1", "--out", tmp_path / "runs", "--device", "cpu")
    drcli("train", recipe_file(), *options, "training.epochs=1", "training.batch_size=20")
    trained.clear()
    message = refused(*target(), code=2)
    assert "diagnose_relearn/seed1: holds a run of another recipe; delete the folder" in message
    assert trained == []


def test_a_damaged_run_does_not_stop_the_other_grids(drcli: Drcli, target: Make, tmp_path: Path) -> None:
    variants = [{"name": name, "set": [f"training.optimizer.lr={rate}"]} for name, rate in (("a", 0.01), ("b", 0.02))]
    arguments = (*target(runs=[{"labels": ["joint"], "variants": variants}]), "--seeds", "0")
    drcli(*arguments)
    for name in ("a", "b"):
        (tmp_path / f"runs/toy-{name}/joint/seed0/summary.json").unlink()
    (tmp_path / "runs/toy-a/joint/seed0/last.pt").write_bytes(b"cut")
    done = drcli(*arguments, code=1)
    assert "toy-a/joint/seed0/last.pt" in done.stderr
    assert (tmp_path / "runs/toy-b/joint/seed0/summary.json").exists()


def test_where_every_run_failed_the_last_table_stays(
    drcli: Drcli, refused: Refused, target: Make, tmp_path: Path
) -> None:
    drcli(*target())
    before = tree(tmp_path / "made")
    for run in (tmp_path / "runs").glob("toy/*/seed*"):
        (run / "summary.json").unlink()
        (run / "last.pt").write_bytes(b"cut")
    assert "none of its 4 runs is finished, so nothing is written" in refused(*target(), code=2)
    assert tree(tmp_path / "made") == before


def test_each_variant_finds_the_data_of_its_own_settings(refused: Refused, target: Make) -> None:
    """Two settings of `prepare` cannot lie in one folder, and the second is told so before anything is trained."""
    variants = [{}, {"name": "few", "set": ["dataset.prepare.rows=30"]}]
    assert "prepared with other settings" in refused(
        *target(runs=[{"labels": ["joint"], "variants": variants}]), code=3
    )


def test_the_engine_is_chosen_as_in_train(refused: Refused, target: Make) -> None:
    assert refused(*target(), "--engine", "rya", code=2) == "--engine rya: must be local or ray\n"
    assert "belongs to --engine ray" in refused(*target(), "--gpus-per-run", "0.5", code=2)


def figures_of(table: Path) -> list[dict[str, str]]:
    """A table's rows without the time they took."""
    rows = csv.DictReader(io.StringIO(table.read_text()))
    return [{key: cell for key, cell in row.items() if not {"seconds", "memory"} & set(key.split("_"))} for row in rows]


@pytest.mark.slow
@pytest.mark.convolutions  # the workers of Ray do not know the small encoder of the tests
def test_ray_makes_the_same_table(drcli: Drcli, process: Process, target: Make, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'drcli[cluster]'")
    spread_out = process(*target(), "--engine", "ray")
    _, stderr = spread_out.communicate(timeout=240)
    assert spread_out.returncode == 0, stderr
    found = figures_of(tmp_path / "made/tiny.csv")
    drcli(*target(), "--out", tmp_path / "local")
    assert figures_of(tmp_path / "made/tiny.csv") == found


def test_a_plan_runs_and_writes_nothing(drcli: Drcli, target: Make, trained: list[Path], tmp_path: Path) -> None:
    before = tree(tmp_path)
    shown = drcli(*target(seconds_per_epoch={"toy": 60}), "--plan").stdout
    assert "4 runs, 0 of them finished; the rest takes about 8:00" in shown  # 4 runs of 2 epochs
    assert trained == []
    assert set(tree(tmp_path)) - set(before) == {"tiny.yaml", "toy.yaml"}


@pytest.mark.slow
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
    note = "left out, since the recipe toy does not have them: mla, umt"
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
        ({"kind": "picture"}, "kind = picture   must be one of: table, figure"),
        ({"kind": "figure"}, "a figure needs `draw`, and a table must not have it"),
        ({"runs": [{"labels": ["joint"], "variants": [{"set": ["seeds=[1]"]}]}]}, "needs a name"),
        ({"sedes": [1]}, "sedes = [1]   unknown key; known: "),
        ({"runs": [{"labels": ["joint"], "grid": {"a": {"key": "k", "values": ["a/b"]}}}]}, "must be a name: "),
        ({"runs": [{"labels": ["joint"], "grid": {}, "variants": [{}]}]}, "must not have both variants and a grid"),
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
