"""`training:` in a method's block: values that hold for this method alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drcli.recipe.load import merge, recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.recipe.training import AdamW, Sgd
from drcli.runs.planned import plan

Make = Callable[..., Recipe]


def methods(**blocks: Any) -> dict[str, Any]:
    return {"joint": {}, "unimodal": {}, **blocks}


def test_its_values_hold_for_the_run_of_the_method_and_for_no_other(toy_recipe: Make) -> None:
    own = {"epochs": 2, "optimizer": {"lr": 0.2}}
    recipe = toy_recipe(method="joint", methods=methods(fast={"method": "joint", "training": own}))
    fast, joint = (recipe.for_run(label, 0) for label in ("fast", "joint"))
    assert (fast.training.epochs, fast.training.batch_size) == (2, 16)
    assert fast.training.optimizer == Sgd(lr=0.2)
    assert joint.training == recipe.training
    # What the run keeps is an ordinary recipe: its training is said once.
    assert "training" not in fast.to_dict()["methods"]["fast"]
    assert fast.to_dict()["training"]["optimizer"]["lr"] == 0.2


def test_the_recipe_reads_back_with_them(toy_recipe: Make) -> None:
    own = {"optimizer": {"lr": 0.2}}
    recipe = toy_recipe(method="joint", methods=methods(fast={"method": "joint", "training": own}))
    assert recipe.to_dict()["methods"]["fast"] == {"method": "joint", "training": own}
    assert recipe_from_dict(recipe.to_dict(), where="again") == recipe
    assert "training" not in recipe.to_dict()["methods"]["joint"]


def test_another_optimizer_takes_nothing_from_that_of_the_recipe(toy_recipe: Make) -> None:
    own = {"optimizer": {"name": "adamw", "lr": 0.001}}
    recipe = toy_recipe(method="joint", methods=methods(other={"method": "joint", "training": own}))
    assert recipe.for_run("other", 0).training.optimizer == AdamW(lr=0.001)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"b": {"c": 9}}, {"a": 1, "b": {"name": "x", "c": 9, "d": 3}}),
        ({"b": {"name": "x", "c": 9}}, {"a": 1, "b": {"name": "x", "c": 9, "d": 3}}),
        ({"b": {"name": "y", "e": 9}}, {"a": 1, "b": {"name": "y", "e": 9}}),
        ({"f": {"g": 1}, "a": 2}, {"a": 2, "b": {"name": "x", "c": 2, "d": 3}, "f": {"g": 1}}),
    ],
)
def test_blocks_are_merged_value_by_value(own: dict[str, Any], expected: dict[str, Any]) -> None:
    assert merge({"a": 1, "b": {"name": "x", "c": 2, "d": 3}}, own) == expected


def test_a_method_with_values_of_its_own_has_teachers_that_are_trained_by_them(
    toy_recipe: Make, tmp_path: Path
) -> None:
    own = {"optimizer": {"lr": 0.2}}
    blocks = {"umt": {}, "faster": {"method": "umt", "training": own}}
    recipe = toy_recipe(method="joint", methods=methods(**blocks))
    runs = plan(recipe, ["umt", "faster"], [0], tmp_path)
    assert [run.name for run in runs] == [
        *("unimodal:audio", "unimodal:visual", "umt"),
        *("unimodal_faster:audio", "unimodal_faster:visual", "faster"),
    ]
    rates = [run.recipe.training.optimizer.lr for run in runs]
    assert rates == [0.05] * 3 + [0.2] * 3
    assert runs[-1].teachers == {run.modality: run.folder for run in runs[3:5]}
    assert runs[2].teachers == {run.modality: run.folder for run in runs[:2]}


def test_teachers_follow_the_method_and_not_the_unimodal_label_of_the_recipe(toy_recipe: Make, tmp_path: Path) -> None:
    blocks = {"joint": {}, "unimodal": {"training": {"optimizer": {"lr": 0.2}}}, "umt": {}}
    runs = plan(toy_recipe(method="joint", methods=blocks), ["unimodal", "umt"], [0], tmp_path)
    rates = {run.name: run.recipe.training.optimizer.lr for run in runs}
    assert rates["unimodal:audio"] == 0.2
    assert rates["unimodal_umt:audio"] == rates["umt"] == 0.05
