"""What every method promises, whatever it does; a new method is covered by a row in CASES."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained, weights

from drcli import checkpoint
from drcli.data.batches import Batches
from drcli.data.prepared import PreparedDataset, Split
from drcli.engine.trainer import Trainer
from drcli.methods import METHODS
from drcli.recipe.schema import Recipe

MODALITIES = (("audio",), ("audio", "visual"), ("audio", "visual", "text"))
TWO_EPOCHS = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
FOUR_EPOCHS = {**TWO_EPOCHS, "epochs": 4}


@dataclass(frozen=True)
class Case:
    """A method as the contract tries it.

    Attributes:
        settings: its block of the recipe, so chosen that it acts within four epochs.
        still: groups of parameters that it must not move; all others must move.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    still: frozenset[str] = frozenset()


CASES = {
    "joint": Case(),
    "unimodal": Case(),
    "diagnose_relearn": Case({"every": 1, "times": 2, "lambda": 3.0, "restarts": 2}),
}

every_method = pytest.mark.parametrize("name", list(METHODS.names()))
every_neutral = pytest.mark.parametrize("name", [n for n in METHODS.names() if METHODS.load(n).neutral is not None])


@pytest.fixture
def recipe(toy_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Makes the recipe of a method over "toy"; `settings` replace those of its case."""

    def make(
        name: str, modalities: tuple[str, ...] = MODALITIES[1], settings: Mapping[str, Any] | None = None, **blocks: Any
    ) -> Recipe:
        block = dict(CASES[name].settings if settings is None else settings)
        return toy_recipe(modalities, **{"method": name, "methods": {name: block}, "training": FOUR_EPOCHS, **blocks})

    return make


def the_modality(recipe: Recipe) -> str | None:
    """What a run of a method that trains one run a modality is restricted to."""
    per_modality = METHODS.load(recipe.methods[recipe.method].method).per_modality
    return next(iter(recipe.modalities)) if per_modality else None


def run(recipe: Recipe, folder: Path) -> Trainer:
    return trained(recipe, folder, modality=the_modality(recipe))


def test_every_method_has_a_case() -> None:
    assert set(CASES) == set(METHODS.names())


@pytest.mark.parametrize("modalities", MODALITIES, ids=len)
@every_method
def test_trains_what_it_declares_and_nothing_else(
    name: str, modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    made = recipe(name, modalities, training=TWO_EPOCHS)
    before = make_trainer(made, tmp_path, modality=the_modality(made)).assembly.model.parameter_groups()
    trainer = run(made, tmp_path)
    after = trainer.assembly.model.parameter_groups()
    moved = {
        group: [not torch.equal(old, new) for old, new in zip(before[group], after[group], strict=True)]
        for group in before
    }
    assert moved == {group: [group not in CASES[name].still] * len(before[group]) for group in before}
    assert [line["epoch"] for line in log(trainer.directory.metrics)] == [0, 1]
    assert METHODS.load(name).moves


@every_method
def test_training_does_not_open_the_test_split(
    name: str, recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = PreparedDataset.split

    def split(self: PreparedDataset, which: str) -> Split:
        opened.append(which)
        assert which != "test"
        return real(self, which)

    monkeypatch.setattr(PreparedDataset, "split", split)
    run(recipe(name), tmp_path)
    assert sorted(opened) == ["train", "val"]


@every_method
def test_state_survives_a_checkpoint(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe(name)
    trainer = run(made, tmp_path)
    written = trainer.state()
    again = make_trainer(made, tmp_path, modality=the_modality(made))
    assert bits(again.state()) != bits(written)
    again.resume()
    again.ctx.epoch = trainer.ctx.epoch  # set by the next epoch
    assert bits(again.state()) == bits(written)
    assert bits(checkpoint.load(trainer.directory.last)) == {"checkpoint_version": 1, **bits(written)}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@every_method
def test_resumed_run_equals_an_uninterrupted_one(
    name: str, optimizer: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {**FOUR_EPOCHS, "optimizer": {"name": optimizer, "lr": 0.02}, "schedule": {"name": "cosine"}}
    made = recipe(name, training=training)
    whole = run(made, tmp_path / "whole")
    for epochs in (1, 2, 3):
        folder = tmp_path / f"stopped after {epochs}"
        first = make_trainer(made, folder, modality=the_modality(made), listener=StopAfter(epochs))
        with pytest.raises(StoppedError):
            first.train()
        second = make_trainer(made, folder, modality=the_modality(made))
        second.resume()
        assert second.next_epoch == epochs
        second.train()
        assert bits(weights(second)) == bits(weights(whole))
        assert log(second.directory.metrics) == log(whole.directory.metrics)
        for file in ("checkpoint.pt", "last.pt"):
            ours, theirs = (checkpoint.load(t.directory.folder / file) for t in (second, whole))
            assert bits({**ours, "seconds": 0}) == bits({**theirs, "seconds": 0})


@every_method
def test_the_same_run_gives_the_same_bits(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe(name)
    first, second = run(made, tmp_path / "1"), run(made, tmp_path / "2")
    assert bits(weights(first)) == bits(weights(second))
    assert log(first.directory.metrics) == log(second.directory.metrics)
    other = run(recipe(name, seeds=[1]), tmp_path / "3")
    assert bits(weights(first)) != bits(weights(other))


@pytest.mark.parametrize("modalities", MODALITIES[1:], ids=len)
@every_neutral
def test_neutral_settings_are_joint_training_bit_for_bit(
    name: str, modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    neutral = {**CASES[name].settings, **METHODS.load(name).neutral}
    ours = run(recipe(name, modalities, settings=neutral), tmp_path / "neutral")
    joint = run(recipe("joint", modalities), tmp_path / "joint")
    assert bits(weights(ours)) == bits(weights(joint))
    assert log(ours.directory.metrics) == log(joint.directory.metrics)


def test_settings_that_are_not_neutral_are_not_joint_training(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Else the test above could not fail."""
    ours, joint = run(recipe("diagnose_relearn"), tmp_path / "ours"), run(recipe("joint"), tmp_path / "joint")
    assert bits(weights(ours)) != bits(weights(joint))


@pytest.mark.parametrize("name", [n for n in METHODS.names() if METHODS.load(n).neutral is None])
def test_a_method_without_neutral_settings_says_why(name: str) -> None:
    assert len(METHODS.load(name).neutral_reason.split()) > 3


@every_method
def test_a_diagnosis_that_changes_nothing_changes_nothing(
    name: str, recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a weight nor the order of the data that follows it."""
    orders: list[list[int]] = []
    real = Batches.shuffled

    def shuffled(self: Batches, *args: Any) -> Any:
        for batch in real(self, *args):
            orders.append(batch.index.tolist())
            yield batch

    monkeypatch.setattr(Batches, "shuffled", shuffled)
    plain = run(recipe(name), tmp_path / "plain")
    seen, orders = orders, []
    monitored = run(recipe(name, diagnosis={"monitor_every": 1, "restarts": 2}), tmp_path / "monitored")
    kinds = [event["kind"] for event in log(monitored.directory.events)]
    assert kinds.count("monitor") == 4
    assert orders == seen
    assert len({tuple(order) for order in seen}) == len(seen)
    assert bits(weights(monitored)) == bits(weights(plain))
    assert log(monitored.directory.metrics) == log(plain.directory.metrics)
