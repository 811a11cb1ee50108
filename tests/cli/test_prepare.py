"""`drcli prepare`: the contract of its output, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command_line import Drcli, RecipeFile, Refused, tree

from drcli.data.prepared import open_dataset

KEYS = {
    "dataset": str,
    "root": str,
    "classes": list,
    "samples": dict,
    "rows": dict,
    "modalities": dict,
    "settings": dict,
    "source": dict,
    "fingerprint": str,
    "seconds": float,
}


def test_json_describes_the_dataset_that_is_there_now(drcli: Drcli, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "digits"
    found = json.loads(drcli("prepare", "digits", "--limit", "150", "--out", out, "--json").stdout)
    assert {key: type(value) for key, value in found.items()} == KEYS
    assert (found["dataset"], found["root"]) == ("digits", str(out))
    assert found["classes"] == list("0123456789")
    assert sum(found["samples"].values()) == 150
    assert found["rows"]["test"] == 4 * found["samples"]["test"]
    assert found["modalities"]["audio"]["shape"] == [1, 64, 16]
    assert found["source"]["limit"] == 150
    opened = open_dataset(out, name="digits", settings=found["settings"])
    assert opened.info.fingerprint == found["fingerprint"]
    assert [path.name for path in out.parent.iterdir()] == ["digits"]


def test_preparing_again_changes_nothing_and_fresh_makes_the_same_again(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    arguments = ("prepare", recipe_file(), "--out", tmp_path / "data", "--json")
    first = json.loads(drcli(*arguments).stdout)
    modified = (tmp_path / "data" / "dataset.json").stat().st_mtime_ns
    again = json.loads(drcli(*arguments).stdout)
    assert (tmp_path / "data" / "dataset.json").stat().st_mtime_ns == modified
    fresh = json.loads(drcli(*arguments, "--fresh").stdout)
    assert (tmp_path / "data" / "dataset.json").stat().st_mtime_ns > modified
    assert first["fingerprint"] == again["fingerprint"] == fresh["fingerprint"]


def test_prepare_writes_to_the_recipes_root_with_the_recipes_settings(
    drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_file(dataset={"name": "toy", "root": "some/where"})
    monkeypatch.chdir(tmp_path)
    drcli("prepare", recipe, "dataset.prepare.draws=3")
    opened = open_dataset(tmp_path / "some" / "where")
    assert opened.info.settings["draws"] == 3
    assert opened.info.rows["val"] == 3 * 24


def test_the_table_has_a_row_a_split(drcli: Drcli, recipe_file: RecipeFile, tmp_path: Path) -> None:
    shown = drcli("prepare", recipe_file(), "--out", tmp_path / "data").stdout
    for word in ("train", "val", "test", "float16 1 x 8 x 8", "60", "24", "30", "48"):
        assert word in shown


def test_other_settings_than_those_of_the_dataset_there_are_refused(
    drcli: Drcli, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    out = tmp_path / "data"
    drcli("prepare", recipe_file(), "--out", out)
    before = tree(out)
    message = refused("prepare", recipe_file(), "dataset.prepare.seed=1", "--out", out, code=3)
    assert message.startswith(f"{out}: holds another prepared dataset (seed: 0 in the folder, 1 requested)")
    assert "--fresh" in message
    assert tree(out) == before


def test_a_download_that_is_not_named_or_not_there_is_refused(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = refused("prepare", "avmnist", code=2)
    assert message == "dataset 'avmnist' is made from a download: name its folder with --source DIR\n"
    message = refused("prepare", "avmnist", "--source", "nowhere", code=3)
    assert message == "nowhere: no such folder; --source must name the folder of the download\n"
    message = refused("prepare", "digits", "--source", tmp_path, code=2)
    assert message == f"dataset 'digits' needs no download: leave out --source {tmp_path}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_leaves_a_class_out_of_train_is_refused(refused: Refused, tmp_path: Path) -> None:
    message = refused("prepare", "digits", "--limit", "12", "--out", tmp_path / "digits", code=3)
    assert "train" in message
    assert "--limit" in message
    assert list(tmp_path.iterdir()) == []


def test_a_message_has_no_empty_line_before_it(drcli: Drcli, tmp_path: Path) -> None:
    drcli("prepare", "digits", "--limit", "100", "--out", tmp_path / "digits")
    said = drcli("prepare", "digits", "--limit", "200", "--out", tmp_path / "digits", code=3).stderr
    assert said == (
        f"drcli: {tmp_path / 'digits'}: holds another prepared dataset (--limit: 100 in the folder, 200 requested); "
        "choose another --out (and dataset.root), or replace it with --fresh\n"
    )


def test_a_limit_that_leaves_a_class_out_of_val_is_a_warning(drcli: Drcli, tmp_path: Path) -> None:
    said = drcli("prepare", "digits", "--limit", "30", "--out", tmp_path / "digits").stderr
    assert "absent from val" in " ".join(said.split()) or "val" in said


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_an_out_that_is_a_file_is_refused(
    place: str, refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    message = refused("prepare", recipe_file(), "--out", tmp_path / place, code=2)
    assert message.startswith(f"{tmp_path / place}: ")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_of_other_files_is_never_overwritten(
    refused: Refused, recipe_file: RecipeFile, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for option in ((), ("--fresh",)):
        message = refused("prepare", recipe_file(), "--out", tmp_path / "mine", *option, code=2)
        assert "holds 'thesis.tex', which is not part of a prepared dataset; choose another --out" in message
    assert list(tree(tmp_path / "mine")) == ["thesis.tex"]
