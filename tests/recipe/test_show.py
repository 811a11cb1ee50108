from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from drcli.recipe.load import load_recipe, load_source
from drcli.recipe.schema import Recipe
from drcli.recipe.source import annotated_yaml
from drcli.recipe.text import differences


@pytest.fixture
def shown(fakes: None, tmp_path: Path, valid: str) -> Callable[..., tuple[Recipe, str]]:
    def show(*overrides: str) -> tuple[Recipe, str]:
        path = tmp_path / "some.yaml"
        path.write_text(valid)
        recipe, source = load_source(path, overrides)
        return recipe, annotated_yaml(recipe, source)

    return show


def origins(text: str) -> dict[str, str]:
    """What stands in the comment of each line, by the line's text."""
    lines = (line.split("  # ") for line in text.splitlines() if "  # " in line)
    return {value.strip(): origin for value, origin in lines}


def test_each_value_is_shown_with_its_origin(shown: Callable[..., tuple[Recipe, str]]) -> None:
    text = shown("training.batch_size=32", "methods.strong={method: relearn, every: 7}")[1]
    found = origins(text)
    assert found["name: some"] == "default"
    assert found["name: digits"] == "line 1"
    assert found["noise: 0.5"] == "line 1"
    assert found["amplitude: [0.3, 1.0]"] == "default"
    assert found["name: concat"] == "line 5"
    assert found["epochs: 60"] == "line 12"
    assert found["batch_size: 32"] == "command line"
    assert found["every: 7"] == "command line"
    assert found["eval_batch_size: null"] == "default"
    assert found["seeds: [0]"] == "default"
    assert text.startswith("name: some" + " " * 34 + "  # default\ndataset:\n  name: digits")


def test_the_shown_text_reads_back_to_the_same_recipe(shown: Callable[..., tuple[Recipe, str]], tmp_path: Path) -> None:
    tricky = "dataset.root='x #: \u00e9 [1'"
    recipe, text = shown(tricky, "training.optimizer.lr=1e-7", "methods.no={method: joint}", "name='1e5'")
    path = tmp_path / "again.yaml"
    path.write_text(text, encoding="utf-8")
    assert load_recipe(path) == recipe
    assert yaml.safe_load(text) == recipe.to_dict()


def test_an_empty_block_is_shown_as_one(fakes: None, tmp_path: Path, valid: str) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(valid.replace("prepare: {noise: 0.5}", "prepare: {parts: {}}"))
    recipe, source = load_source(path)
    assert "    parts: {}" in annotated_yaml(recipe, source)


@pytest.mark.parametrize(
    ("there", "asked", "lines"),
    [
        ({"training": {"epochs": 60}}, {"training": {"epochs": 5}}, ["training.epochs: 60 in the folder, 5 requested"]),
        ({"a": {}}, {"a": {"b": [1, "x"]}}, ["a.b: absent in the folder, [1, x] requested"]),
        ({"a": {"b": 1}, "c": None}, {"c": None}, ["a: {b: 1} in the folder, absent requested"]),
        ({"a": 1, "b": "5"}, {"b": 5, "a": 1.0}, ['b: "5" in the folder, 5 requested']),
        ({"a": {"b": 1}}, {"a": {"b": 1}}, []),
    ],
)
def test_differences_are_named_by_dotted_key(there: Any, asked: Any, lines: list[str]) -> None:
    assert differences(there, asked) == lines
