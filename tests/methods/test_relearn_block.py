"""The block `relearn:` of a method: what it adds to the method, what it is refused for, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained, weights

from drcli import checkpoint
from drcli.diagnosis import snapshot
from drcli.engine.trainer import Trainer
from drcli.errors import CheckpointError, RecipeError
from drcli.recipe.schema import Recipe

RELEARN = {"every": 1, "times": 2, "lambda": 3.0, "restarts": 2}


@pytest.fixture
def run(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Trains a method with a `relearn:` block, or without."""

    def make(method: str, relearn: dict[str, Any] | None = None, folder: str = "run", **settings: Any) -> Trainer:
        block = settings if relearn is None else {**settings, "relearn": relearn}
        return trained(toy_recipe(method=method, methods={method: block}), tmp_path / folder)

    return make


def events(trainer: Trainer) -> list[dict[str, Any]]:
    path = trainer.directory.folder / "events.jsonl"
    return log(path) if path.exists() else []


def test_on_joint_training_it_is_d_and_r_bit_for_bit(run: Callable[..., Trainer]) -> None:
    ours, theirs = run("joint", RELEARN, "joint"), run("diagnose_relearn", None, "dr", **RELEARN)
    assert bits(weights(ours)) == bits(weights(theirs))
    assert events(ours) == events(theirs)
    assert [(event["epoch"], event["event"], event["rule"]) for event in events(ours)] == [(1, 1, "gap"), (2, 2, "gap")]


@pytest.mark.parametrize("switched_off", [{"lambda": 0.0}, {"times": 0}])
def test_switched_off_it_leaves_the_method_as_it_is(switched_off: dict[str, Any], run: Callable[..., Trainer]) -> None:
    plain, ours = run("pmr", None, "plain"), run("pmr", {**RELEARN, **switched_off}, "relearn")
    assert bits(weights(ours)) == bits(weights(plain))


@pytest.mark.parametrize(
    "rule", ["above_floor", pytest.param("relative", marks=pytest.mark.slow), "adjusted", "shuffled", "random", 0.5]
)
def test_every_rule_pulls_by_the_strengths_that_it_logs(rule: str | float, run: Callable[..., Trainer]) -> None:
    ours = run("joint", {**RELEARN, "strength": rule})
    found = events(ours)
    assert [event["rule"] for event in found] == [rule, rule]
    strengths = [state["strength"] for event in found for state in event["modalities"].values()]
    if rule == 0.5:
        assert strengths == [0.5] * 4
    assert all(0 <= strength < 1 for strength in strengths)
    assert "relearn" in checkpoint.load(ours.directory.last)


def test_an_encoder_that_stands_still_in_a_stage_is_pulled_too(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """After epoch 2, in which the other encoder alone was trained, both are where they began, and so are averages."""
    stages = {"alone": 1, "together": 1, "members": "all", "hidden": 8}
    block = {**stages, "relearn": {**RELEARN, "every": 2, "strength": 1.0, "bn_buffers": "blend"}}
    training = {"epochs": 4, "batch_size": 16, "ema": 0.5, "optimizer": {"name": "sgd", "lr": 0.05}}
    recipe = toy_recipe(method="reconboost", methods={"reconboost": block}, training=training)
    trainer = make_trainer(recipe, tmp_path)
    encoders = trainer.assembly.model.encoders
    initial = snapshot(encoders)
    for epoch in range(3):
        trainer._epoch(epoch)
    assert not any(p.requires_grad for p in encoders["audio"].parameters())
    assert [event["epoch"] for event in events(trainer)] == [2]
    now = snapshot(encoders)
    trainer.saver.flush()
    saved = checkpoint.load(trainer.directory.last)["model"]
    for name, value in initial.items():
        if value.is_floating_point():
            assert torch.equal(now[name], value)
            assert torch.equal(saved[f"encoders.{name}"], value)


@pytest.mark.parametrize("method", ["mmpareto", "dgl"])
@pytest.mark.parametrize("frozen", [("audio",), ("audio", "visual")])
def test_methods_of_gradients_train_what_is_not_frozen(
    method: str, frozen: tuple[str, ...], toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    trainer = make_trainer(toy_recipe(method=method, methods={method: {}}, training=training), tmp_path)
    for m in frozen:
        trainer.assembly.model.encoders[m].requires_grad_(False)
    trainer.assembly.method.setup(trainer.ctx)
    groups = trainer.assembly.model.parameter_groups()
    before = {m: [p.detach().clone() for p in parameters] for m, parameters in groups.items()}
    trainer.train()
    still = {m for m, old in before.items() if all(map(torch.equal, groups[m], old))}
    assert still == {*frozen}


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("diagnose_relearn", {}, "diagnose_relearn re-learns by its own settings; leave it out"),
        ("ensemble", {}, "ensemble trains no encoder; leave it out"),
        ("uni_pretrained", {"encoders": "frozen"}, "frozen encoders cannot be re-learned"),
    ],
)
def test_it_is_refused_where_it_makes_no_sense(
    method: str, settings: dict[str, Any], said: str, toy_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError, match=rf"methods\.{method}\.relearn.*{said}"):
        toy_recipe(method=method, methods={method: {**settings, "relearn": RELEARN}})


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ({"evry": 1}, r"relearn\.evry.*unknown key.*Did you mean every"),
        ({"strength": "gaps"}, r"relearn\.strength = gaps"),
        ({"strength": 1.5}, r"relearn\.strength = 1\.5"),
        (7, r"relearn = 7 +must be a mapping"),
    ],
)
def test_wrong_settings_are_refused_with_their_key(block: Any, said: str, toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=said):
        toy_recipe(method="joint", methods={"joint": {"relearn": block}})


def test_a_checkpoint_without_its_state_is_refused(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = toy_recipe(method="joint", methods={"joint": {"relearn": RELEARN}})
    trainer = make_trainer(recipe, tmp_path, listener=StopAfter(1))
    with pytest.raises(StoppedError):
        trainer.train()
    state = dict(checkpoint.load(trainer.directory.last))
    state["relearn"] = {"initial": {}, "events": 0}
    saver = checkpoint.Saver(lambda: None)
    saver.save(trainer.directory.last, state)
    saver.flush()
    with pytest.raises(CheckpointError, match=r"relearn\.initial"):
        make_trainer(recipe, tmp_path).resume()


def test_the_trainer_passes_its_warnings_on(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = toy_recipe(method="joint", methods={"joint": {"relearn": {**RELEARN, "times": 5}}})
    found = make_trainer(recipe, tmp_path).warnings()
    assert found == ["only 2 of 5 re-learnings will happen (every: 1, times: 5, 4 epochs)"]
