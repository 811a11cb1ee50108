"""Methods, backbones and fusions of other packages, found through entry points, train like ours."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from support.training import bits, log, trained, weights

from drcli.errors import RecipeError
from drcli.names import BACKBONES, FUSIONS, METHODS
from drcli.recipe.load import recipe_from_dict


@pytest.fixture
def data(toy_dict: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A recipe that names what another package brings."""
    for registry, name, target in (
        (METHODS, "louder", "support.plugin:Louder"),
        (FUSIONS, "added", "support.plugin:Added"),
        (BACKBONES, "rows", "support.rows:RowsTransformer"),
    ):
        point = EntryPoint(name, target, registry._group)
        monkeypatch.setattr(registry, "_plugins", {name: point})
    encoder = {"backbone": "rows", "dim": 8, "heads": 2, "layers": 1, "feedforward": 8}
    training = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    return {
        **toy_dict(),
        "modalities": {"audio": encoder, "visual": encoder},
        "fusion": "added",
        "method": "louder",
        "methods": {"louder": {"factor": 2.0}, "joint": {}},
        "training": training,
    }


def test_a_run_of_plug_ins_alone_trains_and_is_logged(data: dict[str, Any], tmp_path: Path) -> None:
    trainer = trained(recipe_from_dict(data, where="the test's recipe"), tmp_path / "theirs")
    lines = log(trainer.directory.folder / "metrics.jsonl")
    assert [set(line["train"]) for line in lines] == [{"loss", "loss_louder", "accuracy"}] * 2
    assert lines[1]["train"]["loss"] < lines[0]["train"]["loss"]


def test_a_plug_in_method_with_neutral_settings_is_joint_training(data: dict[str, Any], tmp_path: Path) -> None:
    neutral = {**data, "methods": {"louder": {"factor": 1.0}, "joint": {}}}
    ours, joint = (
        trained(recipe_from_dict({**neutral, "method": method}, where="the test's recipe"), tmp_path / method)
        for method in ("louder", "joint")
    )
    assert bits(weights(ours)) == bits(weights(joint))


def test_settings_of_a_plug_in_method_are_checked(data: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"methods.louder.factor = -1.*greater than 0"):
        recipe_from_dict({**data, "methods": {"louder": {"factor": -1.0}}}, where="the test's recipe")
