"""The contract of methods on encoders of others: a class of one's own, and a transformer of transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from methods.test_contract import CASES, FOUR_EPOCHS, QUICK, Subject, begun
from support.models_of_others import config_folder
from support.shared_runs import events, train
from support.toy_recipes import encoded
from support.training import StopAfter, StoppedError, bits, log, weights

import drcli
from drcli.names import METHODS
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating

MODULE = {"backbone": "module", "path": "support.models_of_others:Mean", "options": {"width": 5}}
ALWAYS = ("diagnose_relearn", "ogm_ge")


def of_method(name: str, made: Mapping[str, Any], encoder: Mapping[str, Any]) -> Recipe:
    settings = {**Subject(name).settings, **({"tensors": "all"} if name in {"ogm", "ogm_ge"} else {})}
    blocks = {"method": name, "methods": {name: settings}, "fusion": CASES[name].fusion}
    return encoded(made, encoder, **blocks, training=FOUR_EPOCHS)


def keeps_the_contract(recipe: Recipe, name: str, folder: Path) -> None:
    """It moves what it declares and nothing else, is resumed bit by bit, and a loaded model predicts the same."""
    whole = train(recipe, folder / "whole")
    assert {group: any(moved) for group, moved in whole.moved().items()} == {
        group: CASES[name].moves(group) for group in whole.groups
    }
    resumed = begun(recipe, folder / "resumed", listener=StopAfter(1))
    if whole.num_epochs > 1:
        with pytest.raises(StoppedError):
            resumed.train()
    resumed = begun(recipe, folder / "resumed")
    resumed.resume()
    resumed.train()
    assert bits(weights(resumed)) == whole.bits
    assert log(folder / "resumed/metrics.jsonl") == whole.metrics
    assert events(folder / "resumed") == whole.events
    trainer = whole.trainer
    batch = next(trainer.ctx.val.in_order(8))
    with torch.no_grad(), evaluating(trainer.assembly.model, trainer.assembly.extras):
        expected = trainer.assembly.method.predict(trainer.assembly.model, batch)
    loaded = drcli.load(trainer.directory.last)
    assert bits(loaded.predict(batch.inputs, batch.lengths).logits) == bits(expected.logits)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ALWAYS else [pytest.mark.slow])
        for n in METHODS.names()
        if n in QUICK or n in ALWAYS
    ],
)
def test_methods_keep_their_contract_on_a_class_of_ones_own(
    name: str, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    keeps_the_contract(of_method(name, toy_dict(), MODULE), name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in METHODS.names() if CASES[n].fusion != "mmtm"])  # which needs stages
def test_methods_keep_their_contract_on_a_transformer_of_transformers(
    name: str, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    vit = {"backbone": "transformers", "model": config_folder(tmp_path / "vit", "vit"), "pretrained": False}
    keeps_the_contract(of_method(name, toy_dict(), vit), name, tmp_path)
