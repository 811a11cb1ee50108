"""Pre-trained encoders: where they start, and what frozen and fine-tuned ones do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.training import StopAfter, StoppedError, bits, made_up_teachers, make_trainer, trained, weights

from drcli.engine.trainer import Trainer
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")

every_number = pytest.mark.parametrize("modalities", [("audio",), TWO, THREE], ids=len)


@pytest.fixture
def recipe(toy_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Makes a recipe of uni_pretrained under the label uni."""

    def make(encoders: str, modalities: tuple[str, ...] = TWO, **blocks: Any) -> Recipe:
        block = {"method": "uni_pretrained", "encoders": encoders}
        return toy_recipe(modalities, **{"method": "uni", "methods": {"uni": block}, **blocks})

    return make


def encoders_of(trainer: Trainer) -> dict[str, Any]:
    return {m: bits(encoder.state_dict()) for m, encoder in trainer.assembly.model.encoders.items()}


@every_number
@pytest.mark.parametrize("encoders", ["frozen", "finetuned"])
def test_encoders_start_from_the_unimodal_runs_and_the_fusion_from_the_seed(
    encoders: str, modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    made = recipe(encoders, modalities)
    trainer = make_trainer(made, tmp_path / "uni")
    teachers = {m: bits(teacher.encoder) for m, teacher in made_up_teachers(made).items()}
    assert encoders_of(trainer) == teachers
    joint = make_trainer(recipe(encoders, modalities, method="joint", methods={"joint": {}}), tmp_path / "joint")
    assert encoders_of(joint) != teachers
    ours, theirs = (bits(t.assembly.model.fusion.state_dict()) for t in (trainer, joint))
    assert ours == theirs


@every_number
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_encoders_stay_bit_for_bit_and_the_fusion_moves(
    optimizer: str, modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Parameters, in spite of weight decay, and the statistics of batch normalisation."""
    training = {"epochs": 2, "batch_size": 16, "optimizer": {"name": optimizer, "lr": 0.02, "weight_decay": 0.1}}
    made = recipe("frozen", modalities, training=training)
    start = make_trainer(made, tmp_path / "start")
    trainer = trained(made, tmp_path / "uni")
    assert encoders_of(trainer) == encoders_of(start)
    assert any(name.endswith("running_mean") for name in weights(trainer))
    before, after = (list(t.assembly.model.fusion.parameters()) for t in (start, trainer))
    assert all(not old.equal(new) for old, new in zip(before, after, strict=True))


def test_finetuned_encoders_move(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe("finetuned")
    start, after = encoders_of(make_trainer(made, tmp_path / "start")), encoders_of(trained(made, tmp_path / "uni"))
    assert all(start[m][name] != after[m][name] for m in start for name in start[m])


def test_frozen_training_resumes_bit_for_bit(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = recipe("frozen")
    whole = trained(made, tmp_path / "whole")
    with pytest.raises(StoppedError):
        make_trainer(made, tmp_path / "stopped", listener=StopAfter(2)).train()
    second = make_trainer(made, tmp_path / "stopped")
    second.resume()
    second.train()
    assert bits(weights(second)) == bits(weights(whole))
