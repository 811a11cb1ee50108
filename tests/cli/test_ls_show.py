"""`drcli ls`, `drcli show`, `drcli --version` and help."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml
from support.command_line import Drcli, RecipeFile, Refused

import drcli as package
from drcli.commands.listing import KINDS
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS
from drcli.recipe.load import load_recipe, recipe_from_dict
from drcli.recipe.shipped import find_recipe, shipped_recipes

NAMES = {
    "recipes": list(shipped_recipes()),
    "methods": METHODS.names(),
    "datasets": DATASETS.names(),
    "backbones": BACKBONES.names(),
    "fusions": FUSIONS.names(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ls_of_a_kind_lists_its_names_and_no_others(kind: str, drcli: Drcli) -> None:
    shown = drcli("ls", kind).stdout
    assert all(name in shown for name in NAMES[kind])
    assert all(other == kind or f"{other}\n" not in shown for other in KINDS)


def test_ls_lists_everything(drcli: Drcli) -> None:
    shown = drcli("ls").stdout
    assert all(name in shown for names in NAMES.values() for name in names)
    assert all(kind in shown for kind in KINDS)


def test_ls_says_what_stands_behind_a_name(drcli: Drcli) -> None:
    shown = " ".join(drcli("ls").stdout.split())
    for words in ("joint training: one cross-entropy", "Handwritten digits and telephone tones: embedded"):
        assert words in shown


def test_ls_methods_says_year_modalities_and_what_each_does(drcli: Drcli) -> None:
    lines = [line.split() for line in drcli("ls", "methods").stdout.splitlines()]
    assert ["name", "year", "modalities", "what", "it", "is"] in [[w for w in line if w not in "│┃|"] for line in lines]
    rows = {line[0]: " ".join(word for word in line if word not in "│┃|") for line in lines if line}
    assert rows["greedy"] == "greedy 2022 2 curation: gates of the faster modality held constant"
    assert rows["joint"].startswith("joint 1+ joint training")


def test_ls_lists_what_other_packages_bring(drcli: Drcli, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = EntryPoint("theirs", "somebody.methods:Theirs", "drcli.methods")
    monkeypatch.setattr(METHODS, "_plugins", {"theirs": theirs})
    shown = drcli("ls", "methods").stdout
    assert "theirs" in shown
    assert "from somebody.methods:Theirs" in shown


def test_ls_of_an_unknown_kind_is_refused(refused: Refused) -> None:
    message = refused("ls", "metods", code=2)
    assert message.startswith("ls metods: unknown kind; known: recipes, methods, ")
    assert message.endswith("Did you mean methods?\n")


@pytest.mark.parametrize("name", list(shipped_recipes()))
def test_show_reads_back_to_the_same_recipe(name: str, drcli: Drcli, tmp_path: Path) -> None:
    shown = drcli("show", name, "training.epochs=7", "seeds=[4]").stdout
    path = tmp_path / "shown.yaml"
    path.write_text(shown, encoding="utf-8")
    asked = load_recipe(find_recipe(name), ["training.epochs=7", "seeds=[4]"])
    assert load_recipe(path) == asked
    assert recipe_from_dict(yaml.safe_load(shown), where="shown") == asked


def test_show_says_where_each_value_comes_from(drcli: Drcli, recipe_file: RecipeFile) -> None:
    recipe = recipe_file()
    lines = [line.split() for line in drcli("show", recipe, "training.epochs=7").stdout.splitlines()]
    number = next(i for i, line in enumerate(recipe.read_text().splitlines(), 1) if "batch_size" in line)
    assert ["epochs:", "7", "#", "command", "line"] in lines
    assert ["batch_size:", "16", "#", "line", str(number)] in lines
    assert ["deterministic:", "true", "#", "default"] in lines


def test_show_tells_whose_the_parameters_are(drcli: Drcli, recipe_file: RecipeFile) -> None:
    shown = drcli("show", recipe_file(), "fusion=mmtm").stdout
    groups = re.findall(r"^#   (\w+): ([\d,]+) \((.*)\)$", shown, flags=re.MULTILINE)
    assert [(group, what) for group, _, what in groups] == [
        ("audio", "encoder tiny"),
        ("visual", "encoder tiny"),
        ("fusion", "mmtm"),
    ]
    assert groups[0][1] == groups[1][1] != "0"
    assert (
        "#   diagnose_relearn: every encoder and the fusion, by the optimiser; every encoder, by re-learning" in shown
    )


def test_show_says_what_a_label_moves_under_its_own_settings(drcli: Drcli) -> None:
    shown = drcli("show", "digits").stdout.splitlines()
    assert "#   uni_frozen: the fusion alone, by the optimiser" in shown
    assert "#   uni_finetuned: every encoder and the fusion, by the optimiser" in shown


def test_show_of_a_dataset_that_is_not_prepared_says_what_it_cannot_know(drcli: Drcli, tmp_path: Path) -> None:
    shown = drcli("show", "digits", f"dataset.root={tmp_path / 'nothing'}").stdout
    assert "# Parameters: known once the dataset is prepared" in shown


def test_version_is_the_packages(drcli: Drcli) -> None:
    assert drcli("--version").stdout == f"drcli {package.__version__}\n"


@pytest.mark.parametrize("command", ["ls", "show", "prepare", "train", "diagnose", "eval"])
def test_every_command_has_help(command: str, drcli: Drcli) -> None:
    assert command in drcli("--help").stdout
    shown = drcli(command, "--help").stdout
    assert "Usage:" in shown
    assert "drcli" in shown or Path(sys.argv[0]).name in shown


def test_no_command_shows_the_help(drcli: Drcli) -> None:
    result = drcli(code=2)
    assert "Usage:" in result.stdout + result.stderr
