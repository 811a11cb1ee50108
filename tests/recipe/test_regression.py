"""What a recipe alone shows to be wrong with a regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drcli.errors import RecipeError
from drcli.methods.base import Method, Unimodal
from drcli.methods.multi_loss import MultiLoss
from drcli.names import METHODS
from drcli.recipe.load import load_recipe, only, recipe_from_dict

SHIPPED = Path(__file__).resolve().parents[2] / "recipes" / "cmu_mosi_regression.yaml"
ABLE = {
    *("joint", "unimodal", "multi_loss", "ensemble", "uni_pretrained", "modality_dropout", "mmpareto", "umt"),
}


def made(**changes: Any) -> dict[str, Any]:
    return {**load_recipe(SHIPPED).to_dict(), **changes}


def refused(**changes: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict(made(**changes), where="recipe")
    return str(caught.value)


def test_the_shipped_recipe_is_one_and_keeps_its_loss() -> None:
    recipe = load_recipe(SHIPPED)
    assert (recipe.task, recipe.loss) == ("regression", "l1")
    assert recipe_from_dict(recipe.to_dict(), where="") == recipe
    assert recipe_from_dict(made(loss="mse"), where="").loss == "mse"
    assert recipe_from_dict(made(loss=None), where="").loss == "l1"


def test_a_classification_says_nothing_of_it() -> None:
    found = load_recipe(SHIPPED.with_name("cmu_mosi_utterances.yaml"), labels=only("joint"))
    assert found.task == "classification"
    assert not {"task", "loss"} & found.to_dict().keys()


def test_only_methods_that_need_no_classes_say_that_they_can() -> None:
    able = {name for name in METHODS.names() if "regression" in METHODS.load(name).tasks}
    assert able == ABLE
    assert all("classification" in METHODS.load(name).tasks for name in METHODS.names())


@pytest.mark.parametrize("base", [Method, Unimodal, MultiLoss])
def test_a_class_that_does_not_say_so_is_for_classes_alone(base: type[Method]) -> None:
    class Derived(base):  # type: ignore[valid-type, misc]
        """As a plug-in derives one."""

    assert Derived.tasks == frozenset({"classification"})


@pytest.mark.parametrize("name", ["diagnose_relearn", "ogm", "pmr", "mla", "qmf"])
def test_methods_that_need_classes_are_refused(name: str) -> None:
    message = refused(method=name, methods={name: {}})
    assert f"methods.{name}" in message
    assert f"{name} needs classes, and task: regression has none" in message
    assert "joint" in message


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"methods": {"joint": {"relearn": {"every": 5, "times": 1}}}}, "methods.joint.relearn"),
        ({"diagnosis": {"monitor_every": 1}}, "diagnosis.monitor_every"),
        (
            {"task": "classification", "loss": None},
            "holds a real value with this dataset.prepare: set task: regression",
        ),
        ({"loss": "huber"}, "loss"),
        ({"task": "ranking"}, "task"),
    ],
)
def test_what_does_not_fit_a_regression_is_refused(changes: dict[str, Any], wrong: str) -> None:
    assert wrong in refused(**changes)


def test_a_dataset_of_classes_and_a_loss_without_a_regression_are_refused() -> None:
    dataset = {**made()["dataset"], "prepare": {"file": "bc-LSTM", "target": "seven"}}
    assert "holds classes with this dataset.prepare: set task: classification" in refused(dataset=dataset)
    message = refused(dataset=dataset, task="classification", loss="l1")
    assert "belongs to task: regression" in message
