from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drcli.errors import RecipeError
from drcli.recipe import shipped
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import MethodBlock
from drcli.recipe.shipped import find_recipe, shipped_recipes


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two shipped recipes beside the package, as in a checkout."""
    (tmp_path / "recipes").mkdir()
    for name in ("digits", "avmnist"):
        (tmp_path / "recipes" / f"{name}.yaml").touch()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path / "drcli")
    return tmp_path / "recipes"


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    assert load_recipe(find_recipe(name)).name == name


def test_a_name_means_a_shipped_recipe(two: Path) -> None:
    assert list(shipped_recipes()) == ["avmnist", "digits"]
    assert find_recipe("digits") == two / "digits.yaml"


def test_recipes_inside_the_package_come_first(two: Path) -> None:
    inside = two.parent / "drcli" / "recipes"
    inside.mkdir(parents=True)
    (inside / "cremad.yaml").touch()
    assert shipped_recipes() == {"cremad": inside / "cremad.yaml"}


def test_a_slash_or_the_ending_means_a_path(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(two)
    assert find_recipe("digits.yaml") == Path("digits.yaml")
    assert find_recipe("./avmnist.yaml") == Path("avmnist.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "digit",
            (
                "unknown recipe 'digit'; known: avmnist, digits. Did you mean digits? "
                "A path needs a slash or ends in .yaml."
            ),
        ),
        ("", "unknown recipe ''; known: avmnist, digits. A path needs a slash or ends in .yaml."),
        (
            "mine/digit.yaml",
            (
                "mine/digit.yaml: no such recipe file. Recipes that come with drcli need no path; "
                "known: avmnist, digits. Did you mean digits?"
            ),
        ),
    ],
)
def test_a_recipe_that_is_not_there_is_refused_with_those_that_are(two: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        find_recipe(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["/", "a/" + "b" * 5000, "a/\0"])
def test_odd_paths_are_refused_like_missing_files(two: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="no such recipe file"):
        find_recipe(text)


def test_finding_recipes_imports_nothing_heavy() -> None:
    heavy = {"torch", "pydantic", "yaml"}
    code = f"import sys, drcli.recipe.shipped as s; s.shipped_recipes(); print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_reading_and_showing_recipes_does_not_import_torch() -> None:
    modules = "source, drcli.recipe.source, drcli.recipe.problems, drcli.recipe.text, drcli.recipe.validate"
    code = f"import sys, drcli.recipe.{modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["relearning_mosi", "relearning_avmnist"])
def test_the_recipes_on_the_pull_have_the_same_methods_and_rules(name: str) -> None:
    first, second = (load_recipe(find_recipe(recipe)) for recipe in ("relearning", name))
    assert {label: (block.method, rule(block)) for label, block in first.methods.items()} == {
        label: (block.method, rule(block)) for label, block in second.methods.items()
    }


def rule(block: MethodBlock) -> object:
    """The rule of re-learning of a method's block; None without re-learning."""
    return None if block.relearn is None else block.relearn.strength


def test_every_event_of_the_pull_on_avmnist_is_inside_its_shorter_run() -> None:
    own, shared = (load_recipe(find_recipe(name)) for name in ("relearning_avmnist", "avmnist_full"))
    assert own.dataset == shared.dataset
    assert own.training.pairs == shared.training.pairs
    for block in own.methods.values():
        if block.relearn is not None:
            assert block.relearn.every * block.relearn.times < own.training.epochs - 1


def test_the_pull_on_mosi_trains_as_its_recipe_does() -> None:
    own, shared = (load_recipe(find_recipe(name)) for name in ("relearning_mosi", "cmu_mosi_utterances"))
    assert (own.dataset, own.modalities, own.fusion, own.training) == (
        shared.dataset,
        shared.modalities,
        shared.fusion,
        shared.training,
    )
    for label in ("joint", "multi_loss", "ogm", "ogm_ge", "pmr", "agm", "uni_finetuned"):
        assert own.methods[label].settings == shared.methods[label].settings
