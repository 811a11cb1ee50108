"""What every method promises, whatever it does; a new method is covered by a row in CASES."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
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
from drcli.errors import RecipeError
from drcli.names import METHODS
from drcli.recipe.schema import Recipe

MODALITIES = (("audio",), ("audio", "visual"), ("audio", "visual", "text"))
TWO_EPOCHS = {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
FOUR_EPOCHS = {**TWO_EPOCHS, "epochs": 4}


@dataclass(frozen=True)
class Case:
    """A method as the contract tries it.

    Attributes:
        settings: its block of the recipe, so chosen that it acts within four epochs.
        still: what it must not move, of "encoders" and "fusion"; all others must move.
        fusion: the fusion that it is tried on; neutral settings are joint training on the same.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    still: frozenset[str] = frozenset()
    fusion: str = "concat"

    def moves(self, group: str) -> bool:
        """Whether it must move a group of the model's parameters: a modality's encoder, or "fusion"."""
        return ("fusion" if group == "fusion" else "encoders") not in self.still


CASES = {
    "joint": Case(),
    "unimodal": Case(),
    "diagnose_relearn": Case({"every": 1, "times": 2, "lambda": 3.0, "restarts": 2}),
    "pmr": Case({"share": 0.3, "per_weight": 0.01, "per_epochs": 2, "ends": 2}),
    "agm": Case({"ends": 2}),
    "ogm": Case({"alpha": 0.5, "ends": 2}),
    "ogm_ge": Case({"alpha": 0.5, "ends": 2}),
    "multi_loss": Case(),
    "g_blending": Case({"super_epoch": 2}),
    "ensemble": Case(still=frozenset({"encoders", "fusion"})),
    "uni_pretrained": Case(),
    "greedy": Case({"epsilon": 0.0, "window": 2, "starts": 0}, fusion="mmtm"),
    "umt": Case(),
    "mslr": Case({"rates": {"audio": 0.7}}),
    "g2d": Case(),
    "cggm": Case({"ends": 2}),
    "modality_dropout": Case(),
    "qmf": Case(),
    "pdf": Case(),
    "iprm": Case(),
    "amss": Case({"ends": 2}),
}

every_method = pytest.mark.parametrize("name", list(METHODS.names()))


@pytest.fixture
def recipe(toy_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Makes the recipe of a method over "toy"; `settings` replace those of its case."""

    def make(
        name: str, modalities: tuple[str, ...] = MODALITIES[1], settings: Mapping[str, Any] | None = None, **blocks: Any
    ) -> Recipe:
        case = CASES[name]
        block = dict(case.settings if settings is None else settings)
        common = {"method": name, "methods": {name: block}, "fusion": case.fusion, "training": FOUR_EPOCHS}
        return toy_recipe(modalities, **{**common, **blocks})

    return make


def the_modality(recipe: Recipe) -> str | None:
    """What a run of a method that trains one run a modality is restricted to."""
    per_modality = METHODS.load(recipe.methods[recipe.method].method).per_modality
    return next(iter(recipe.modalities)) if per_modality else None


def run(recipe: Recipe, folder: Path) -> Trainer:
    return trained(recipe, folder, modality=the_modality(recipe))


def test_every_method_has_a_case() -> None:
    assert set(CASES) == set(METHODS.names())


def num_epochs(trainer: Trainer) -> int:
    """How many epochs a run has: one evaluation where the method takes no steps."""
    return trainer.ctx.epochs if trainer.assembly.method.trains else 1


def allowed(names: Iterable[str], numbers: tuple[tuple[str, ...], ...]) -> pytest.MarkDecorator:
    """Pairs of a method and modalities that its mathematics allows."""
    pairs: list[Any] = []
    for name in names:
        low, high = METHODS.load(name).num_modalities
        pairs += [pytest.param(name, ms, id=f"{name}-{len(ms)}") for ms in numbers if low <= len(ms) <= (high or 99)]
    return pytest.mark.parametrize(("name", "modalities"), pairs)


@allowed(METHODS.names(), MODALITIES)
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
    assert moved == {group: [CASES[name].moves(group)] * len(before[group]) for group in before}
    assert [line["epoch"] for line in log(trainer.directory.folder / "metrics.jsonl")] == [0, 1][: num_epochs(trainer)]
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


@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adamw", marks=pytest.mark.slow)])
@every_method
def test_resumed_run_equals_an_uninterrupted_one(
    name: str, optimizer: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {**FOUR_EPOCHS, "optimizer": {"name": optimizer, "lr": 0.02}, "schedule": {"name": "cosine"}}
    made = recipe(name, training=training)
    whole = run(made, tmp_path / "whole")
    for epochs in (1, 2, 3)[: num_epochs(whole) - 1]:
        folder = tmp_path / f"stopped after {epochs}"
        first = make_trainer(made, folder, modality=the_modality(made), listener=StopAfter(epochs))
        with pytest.raises(StoppedError):
            first.train()
        second = make_trainer(made, folder, modality=the_modality(made))
        second.resume()
        assert second.next_epoch == epochs
        second.train()
        assert bits(weights(second)) == bits(weights(whole))
        assert log(second.directory.folder / "metrics.jsonl") == log(whole.directory.folder / "metrics.jsonl")
        for file in ("checkpoint.pt", "last.pt"):
            ours, theirs = (checkpoint.load(t.directory.folder / file) for t in (second, whole))
            assert bits({**ours, "seconds": 0}) == bits({**theirs, "seconds": 0})


@every_method
def test_the_same_run_gives_the_same_bits(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe(name)
    first, second = run(made, tmp_path / "1"), run(made, tmp_path / "2")
    assert bits(weights(first)) == bits(weights(second))
    assert log(first.directory.folder / "metrics.jsonl") == log(second.directory.folder / "metrics.jsonl")
    other = run(recipe(name, seeds=[1]), tmp_path / "3")
    assert bits(weights(first)) != bits(weights(other))


@every_method
def test_other_numbers_of_modalities_are_refused(name: str, recipe: Callable[..., Recipe]) -> None:
    low, high = METHODS.load(name).num_modalities
    for modalities in MODALITIES:
        if not low <= len(modalities) <= (high or 99):
            with pytest.raises(RecipeError, match=rf"methods\.{name}.*takes .* modalities.*, the recipe has"):
                recipe(name, modalities)


@allowed([n for n in METHODS.names() if METHODS.load(n).neutral is not None], MODALITIES[1:])
def test_neutral_settings_are_joint_training_bit_for_bit(
    name: str, modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    neutral = {**CASES[name].settings, **METHODS.load(name).neutral}
    ours = run(recipe(name, modalities, settings=neutral), tmp_path / "neutral")
    joint = run(recipe("joint", modalities, fusion=CASES[name].fusion), tmp_path / "joint")
    assert bits(weights(ours)) == bits(weights(joint))
    assert evaluations(ours) == evaluations(joint)


def evaluations(trainer: Trainer) -> list[dict[str, Any]]:
    """The validation scores of every epoch."""
    return [line["val"] for line in log(trainer.directory.folder / "metrics.jsonl")]


@pytest.mark.parametrize("name", [n for n in METHODS.names() if METHODS.load(n).neutral])
def test_settings_that_are_not_neutral_are_not_joint_training(
    name: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Else the test above could not fail."""
    ours = run(recipe(name), tmp_path / "ours")
    joint = run(recipe("joint", fusion=CASES[name].fusion), tmp_path / "joint")
    assert bits(weights(ours)) != bits(weights(joint))


@allowed([n for n in METHODS.names() if not METHODS.load(n).per_modality], MODALITIES[1:])
def test_permuting_the_modalities_permutes_the_coefficients(
    name: str, modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """One epoch from the same weights, the modalities named in another order."""
    logs = []
    start: Trainer | None = None
    for number, order in enumerate((modalities, modalities[::-1])):
        fusion = "sum" if CASES[name].fusion == "concat" else CASES[name].fusion
        made = recipe(name, order, fusion=fusion, training={**TWO_EPOCHS, "epochs": 1})
        trainer = make_trainer(made, tmp_path / str(number))
        if start is None:
            start = make_trainer(made, tmp_path / "start")
        trainer.assembly.model.load_state_dict(start.assembly.model.state_dict())
        trainer.assembly.extras.load_state_dict(start.assembly.extras.state_dict())
        trainer.train()
        logs.append(log(trainer.directory.folder / "metrics.jsonl")[0])
    assert logs[1]["train"].keys() == logs[0]["train"].keys()
    for scalar, value in logs[0]["train"].items():
        assert logs[1]["train"][scalar] == pytest.approx(value, rel=1e-4, abs=1e-6), scalar
    assert logs[1]["val"]["loss"] == pytest.approx(logs[0]["val"]["loss"], rel=1e-4)


@pytest.mark.parametrize("training", [{"accumulate": 3}, {"precision": "bf16"}], ids=str)
@every_method
def test_accumulated_gradients_and_bf16_train_too(
    name: str, training: dict[str, Any], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    made = recipe(name, training={**TWO_EPOCHS, **training})
    before = bits(weights(make_trainer(made, tmp_path, modality=the_modality(made))))
    trainer = run(made, tmp_path)
    last = log(trainer.directory.folder / "metrics.jsonl")[-1]
    assert math.isfinite(last["train"]["loss"])
    assert all(tensor.dtype in {torch.float32, torch.int64} for tensor in weights(trainer).values())
    assert (bits(weights(trainer)) != before) == (CASES[name].still != {"encoders", "fusion"})
    plain = run(recipe(name, training=TWO_EPOCHS), tmp_path / "plain")
    assert log(plain.directory.folder / "metrics.jsonl")[-1]["val"]["loss"] == pytest.approx(
        last["val"]["loss"], rel=0.5
    )


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
    kinds = [event["kind"] for event in log(monitored.directory.folder / "events.jsonl")]
    assert kinds.count("monitor") == num_epochs(monitored)
    assert orders == seen
    assert len({tuple(order) for order in seen}) == len(seen)
    assert bits(weights(monitored)) == bits(weights(plain))
    assert log(monitored.directory.folder / "metrics.jsonl") == log(plain.directory.folder / "metrics.jsonl")
