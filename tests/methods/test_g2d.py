"""G2D: what is distilled, which modality stands still, and how still it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.g2d import slow_distillation, slow_strongest
from reference.umt import slow_mse
from support.training import bits, log, make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.methods.g2d import G2D, strongest
from drcli.methods.parts.teachers import distillation
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of g2d before its first step."""

    def make(modalities: tuple[str, ...] = TWO, epochs: int = 1, **settings: Any) -> Trainer:
        optimizer = {"name": "sgd", "lr": 0.05, "weight_decay": 0.1}
        training = {"epochs": epochs, "batch_size": 16, "optimizer": optimizer}
        recipe = toy_recipe(modalities, method="g2d", methods={"g2d": settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> G2D:
    method = trainer.assembly.method
    assert isinstance(method, G2D)
    return method


def a_batch(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def state_of(trainer: Trainer, modality: str) -> Any:
    return bits({name: x.clone() for name, x in trainer.ctx.model.encoders[modality].state_dict().items()})


def test_the_divergence_worked_by_hand() -> None:
    teacher, student = torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)
    assert distillation(student, teacher, 1.0).item() == pytest.approx(0.327813, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_divergence_agrees_with_a_slow_reference(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 7, 5, generator=generator)
    expected = slow_distillation(student.tolist(), teacher.tolist(), temperature)
    assert distillation(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("modalities", [("audio",), TWO, THREE], ids=len)
def test_the_losses_agree_with_slow_references(modalities: tuple[str, ...], trainer: Callable[..., Trainer]) -> None:
    made = trainer(modalities, logit_weight=0.5, feature_weight=3.0, temperature=2.0)
    method, batch = method_of(made), a_batch(made)
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    features = method.teachers.features(batch)
    logits = method.teachers.logits(features)
    for m in modalities:
        kl = slow_distillation(outputs.logits.tolist(), logits[m].tolist(), 2.0)
        mse = slow_mse(outputs.features[m].tolist(), features[m].tolist(), "mean")
        assert losses[f"logits_{m}"].item() == pytest.approx(0.5 * kl, rel=1e-4)
        assert losses[f"features_{m}"].item() == pytest.approx(3 * mse, rel=1e-4)
    assert len(losses) == 1 + 2 * len(modalities)


def test_features_equal_to_the_teachers_have_no_loss_and_no_gradient(trainer: Callable[..., Trainer]) -> None:
    made = trainer(logit_weight=0.0)
    for m, teacher in made.ctx.teachers.items():
        made.ctx.model.encoders[m].load_state_dict(teacher.encoder)
    made.ctx.model.eval()
    method, batch = method_of(made), a_batch(made)
    losses = method.losses(made.ctx, method.forward(made.ctx, batch), batch)
    extra = losses["features_audio"] + losses["features_visual"]
    assert extra.item() == pytest.approx(0, abs=1e-12)  # rounding: one of them is computed with a graph
    extra.backward()
    gradients = [p.grad for p in made.ctx.model.encoders.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_of_equal_scores_none_is_the_strongest() -> None:
    assert strongest({"a": torch.tensor(2.0), "b": torch.tensor(2.0), "c": torch.tensor(1.0)}) is None
    assert strongest({"a": torch.tensor(1.0), "b": torch.tensor(2.0), "c": torch.tensor(1.0)}) == "b"


@pytest.mark.parametrize("ranking", ["train", "batch"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_the_strongest_teacher_agrees_with_a_slow_reference(
    modalities: tuple[str, ...], ranking: str, trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, ranking=ranking)
    method, batch = method_of(made), a_batch(made)
    method.on_epoch_start(made.ctx)
    method.training_step(made.ctx, batch)
    rows = batch if ranking == "batch" else next(made.ctx.train.in_order(1000))
    logits = method.teachers.logits(method.teachers.features(rows))
    expected = slow_strongest({m: z.tolist() for m, z in logits.items()}, rows.labels.tolist())
    assert expected is not None
    assert method.still == expected


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_a_modality_that_stands_still_is_bit_identical_and_the_others_are_not(
    modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    """In spite of momentum of the steps before, of weight decay and of batch normalisation."""
    made = trainer(modalities, epochs=2)
    method, batch = method_of(made), a_batch(made)
    made.ctx.epoch = 1
    method.training_step(made.ctx, batch)
    made.ctx.epoch = 0
    method.on_epoch_start(made.ctx)
    before = {m: state_of(made, m) for m in modalities}
    method.training_step(made.ctx, batch)
    still = {m for m in modalities if state_of(made, m) == before[m]}
    assert still == {method.still}
    assert all(p.requires_grad for p in made.ctx.model.parameters())
    assert all(module.training for module in made.ctx.model.modules())


def test_zero_gradients_move_the_encoder_all_the_same_as_in_the_authors_code(trainer: Callable[..., Trainer]) -> None:
    made = trainer(stand_still="zero_gradients")
    method = method_of(made)
    method.on_epoch_start(made.ctx)
    assert method.strongest is not None
    before = state_of(made, method.strongest)
    method.training_step(made.ctx, a_batch(made))
    assert state_of(made, method.strongest) != before
    for parameter in made.ctx.model.encoders[method.strongest].parameters():
        assert parameter.grad is not None
        assert parameter.grad.any() == (parameter.dim() != 4)


def test_the_phase_ends_after_its_part_of_the_epochs(trainer: Callable[..., Trainer]) -> None:
    made = trainer(epochs=3, phase=0.5)
    made.train()
    lines = log(made.directory.folder / "metrics.jsonl")
    logged = [{name: x for name, x in line["train"].items() if name.startswith("coefficient/")} for line in lines]
    still = method_of(made).strongest
    expected = {f"coefficient/{m}": float(m != still) for m in TWO}
    assert logged == [expected, expected, {}]


def test_a_single_modality_never_stands_still(trainer: Callable[..., Trainer]) -> None:
    made = trainer(("audio",), phase=1.0)
    before = state_of(made, "audio")
    method_of(made).training_step(made.ctx, a_batch(made))
    assert state_of(made, "audio") != before


def test_with_equal_teachers_all_are_trained(trainer: Callable[..., Trainer]) -> None:
    """A batch without noise in it: both teachers give the same."""
    made = trainer(ranking="batch")
    method, batch = method_of(made), a_batch(made)
    one = next(iter(made.ctx.teachers.values()))
    for m in TWO:
        method.teachers.encoders[m].load_state_dict(one.encoder)
        method.teachers.heads[m] = dict(one.head)
    batch = replace(batch, inputs=dict.fromkeys(TWO, batch.inputs["audio"]))
    before = {m: state_of(made, m) for m in TWO}
    method.training_step(made.ctx, batch)
    assert not any(state_of(made, m) == before[m] for m in TWO)
