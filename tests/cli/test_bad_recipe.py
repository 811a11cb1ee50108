"""Recipes and overrides that are not valid: every problem in one message, and nothing is run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from support.command_line import RecipeFile, Refused, tree

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainig.epochs=5", "trainig = {epochs: 5}   unknown key; known: "),
        ("trainig.epochs=5", "Did you mean training?"),
        ("training.epoch=5", "training.epoch = 5   unknown key; known: "),
        ("training.epoch=5", "Did you mean epochs?"),
        ("method=diagnose_relern", "method = diagnose_relern   must be a label of methods; known: "),
        ("methods.x.method=jiont", "methods.x.method = jiont   unknown method; known: "),
        ("methods.jiont={}", "unknown method 'jiont'; known: joint, unimodal, "),
        ("modalities.audio.backbone=resnet_smal", "unknown backbone; known: "),
        ("modalities.audio.backbone=resnet_smal", "Did you mean resnet_small?"),
        ("fusion=concatenate", "unknown fusion; known: "),
        ("dataset.name=digts", "dataset.name = digts   unknown dataset; known: "),
        ("training.epochs=many", "training.epochs = many   must be a whole number"),
        ("training.optimizer.lr=-1", "training.optimizer.lr = -1   must be greater than 0"),
        ("selection=best", "selection = best   must be one of: val, last, test"),
        ("training.epochs", "override 'training.epochs': has no =; write KEY=VALUE, such as training.epochs=5"),
        ("training.epochs=!!python/object:os.system [ls]", "the tag"),
    ],
)
@pytest.mark.parametrize("command", ["train", "show", "prepare"])
def test_an_override_that_is_not_valid_is_refused(
    command: str,
    override: str,
    message: str,
    refused: Refused,
    recipe_file: RecipeFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = recipe_file()
    monkeypatch.chdir(tmp_path)
    assert message in refused(command, recipe, override, code=2)
    assert list(tree(tmp_path)) == ["toy.yaml"]


def test_all_problems_come_at_once_with_file_and_lines(refused: Refused, recipe_file: RecipeFile) -> None:
    recipe = recipe_file(fusion="glue", selection="best", nonsense=1)
    lines = recipe.read_text().splitlines()
    message = refused("train", recipe, "training.epochs=0", code=2)
    assert message.startswith(f"{recipe}: 4 problems\n")
    for key in ("fusion", "selection", "nonsense"):
        number = next(i for i, line in enumerate(lines, start=1) if line.startswith(f"{key}:"))
        (named,) = (line for line in message.splitlines() if line.startswith(f"  line {number} "))
        assert key in named
    assert "command line  training.epochs = 0" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: !!python/object/apply:os.mkdir [victim]\n", "line 1: the tag tag:yaml.org,2002:python/"),
        ("seeds: !!set {0}\n", "line 1: the tag tag:yaml.org,2002:set is refused"),
        (BOMB, "more than"),
        ("a: &a [*a]\n", "an alias (*) is inside the value it refers to"),
        ("method: joint\nmethod: unimodal\n", "line 2  method   given twice, first on line 1"),
        ("method: [joint\n", "line 2"),
        ("- 1\n- 2\n", "line 1: must be a mapping, such as {key: value}; it is [1, 2]"),
        ("", "toy.yaml"),
        ("[" * 5000, "nested more than"),
    ],
)
def test_yaml_that_is_no_recipe_is_refused(
    text: str, message: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(text)
    said = refused("train", path, code=2)
    assert said.startswith(str(path))
    assert message in said
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "binary content; a recipe is YAML text in UTF-8"),
        (b"name: digits\nmethod: \xff\xfe\n", "line 2: not UTF-8 text; save the recipe as UTF-8"),
        (b"x" * 1_100_000, "larger than 1 MB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(content: bytes, message: str, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_bytes(content)
    said = refused("show", path, code=2)
    assert said.startswith(str(path))
    assert message in said


@pytest.mark.parametrize("command", ["train", "show", "prepare"])
def test_a_missing_recipe_offers_the_nearest_name(command: str, refused: Refused, tmp_path: Path) -> None:
    message = refused(command, "digts", code=2)
    assert message.startswith("unknown recipe 'digts'; known: ")
    assert "Did you mean digits?" in message
    path = tmp_path / "digits.yaml"
    assert f"{path}: no such recipe file" in refused(command, path, code=2)


@pytest.mark.parametrize("command", ["train", "show", "prepare"])
def test_a_recipe_of_the_working_directory_named_without_its_ending_is_offered(
    command: str, refused: Refused, recipe_file: RecipeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe_file()
    monkeypatch.chdir(tmp_path)
    message = refused(command, "toy", code=2)
    assert message == "unknown recipe 'toy': a path needs a slash or ends in .yaml. Did you mean toy.yaml?\n"


def test_a_folder_is_no_recipe(refused: Refused, tmp_path: Path) -> None:
    assert f"{tmp_path}/: no such recipe file".replace("/:", ":") in refused("train", f"{tmp_path}/", code=2)


def test_the_recipe_of_these_tests_is_valid(refused: Refused, recipe_file: RecipeFile) -> None:
    assert yaml.safe_load(recipe_file().read_text())["method"] == "joint"
    assert "--device tpu" in refused("train", recipe_file(), "--device", "tpu", code=2)
