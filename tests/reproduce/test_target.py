"""The targets that come with drcli: valid, of recipes that exist, and out of the way of `drcli ls`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drcli.recipe.shipped import find_target, shipped_recipes, shipped_targets
from drcli.reproduce.target import Axis, Choice, Group, expand, load_target

NAMES = ["fig1", "fig3", "fig4", "fig5", "table1", "table2", "table3", "table4"]


def test_the_targets_are_those_of_the_paper_and_no_recipes() -> None:
    assert list(shipped_targets()) == NAMES
    assert not set(NAMES) & set(shipped_recipes())


@pytest.mark.parametrize("dataset", [None, "digits", "avmnist"])
@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_target_is_valid_on_its_datasets_and_on_the_small_ones(name: str, dataset: str | None) -> None:
    target = load_target(find_target(name))
    expanded = expand(target, Choice(dataset=dataset, out=Path("runs")))
    assert target.name == name
    assert {grid.base for grid in expanded.grids} == ({dataset} if dataset else set(target.recipes))
    folders = [run.folder for run in expanded.runs]
    assert len(set(folders)) == len(folders)
    assert {"joint", "diagnose_relearn"} <= {run.recipe.method for run in expanded.runs}


def test_runs_that_targets_share_are_the_same_runs() -> None:
    """Otherwise the second target would refuse the folder of the first."""
    recipes: dict[Path, dict[str, Any]] = {}
    for name in NAMES:
        for run in expand(load_target(find_target(name)), Choice(dataset="digits")).runs:
            assert recipes.setdefault(run.folder, run.recipe.to_dict()) == run.recipe.to_dict()


def test_data_moves_every_root_and_keeps_variants_apart(tmp_path: Path) -> None:
    expanded = expand(load_target(find_target("table4")), Choice(dataset="digits", data=tmp_path / "a: #b"))
    assert {grid.recipe.dataset.root for grid in expanded.grids} == {tmp_path / "a: #b" / "digits-audio-22"}
    assert {grid.recipe.name for grid in expanded.grids} == {"digits-noisy-audio"}


def test_seeds_are_the_command_lines_then_the_targets_then_the_recipes() -> None:
    fig3, fig5 = load_target(find_target("fig3")), load_target(find_target("fig5"))
    assert {run.seed for run in expand(fig3, Choice(seeds="4,5")).runs} == {4, 5}
    assert {run.seed for run in expand(fig3, Choice()).runs} == {0}
    assert {run.seed for run in expand(fig5, Choice()).runs} == {0, 1, 2}


def test_a_grid_is_every_combination() -> None:
    group = Group(labels=("x",), grid={"a": Axis(key="k.a", values=(1, 2.5)), "b": Axis(key="k.b", values=("u",))})
    assert [(variant.name, variant.set) for variant in group.all_variants()] == [
        ("a1-bu", ("k.a=1", "k.b=u")),
        ("a2.5-bu", ("k.a=2.5", "k.b=u")),
    ]


def test_a_grid_of_29_to_the_8_points_is_refused_at_once() -> None:
    axis = Axis(key="k.a", values=tuple(range(29)))
    with pytest.raises(ValueError, match=r"has more than 1,000 combinations of values"):
        Group(labels=("x",), grid={f"a{i}": axis for i in range(8)})
