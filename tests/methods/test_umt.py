"""UMT: the distance to the teachers, and that these stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.umt import slow_umt
from support.training import bits, made_up_teachers, make_trainer

from drcli.engine.trainer import Trainer
from drcli.methods.parts.teachers import feature_distances
from drcli.methods.umt import UMT
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of umt before its first step."""

    def make(modalities: tuple[str, ...] = TWO, epochs: int = 1, fusion: str = "concat", **settings: Any) -> Trainer:
        training = {"epochs": epochs, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_recipe(modalities, fusion=fusion, method="umt", methods={"umt": settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> UMT:
    method = trainer.assembly.method
    assert isinstance(method, UMT)
    return method


@pytest.mark.parametrize(("weight", "value"), [(1.0, 1.666667), (10.0, 16.666667), (50.0, 83.333333)])
def test_the_mean_worked_by_hand(weight: float, value: float) -> None:
    found = feature_distances({"a": torch.tensor([[1.0, 2.0, 3.0]])}, {"a": torch.ones(1, 3)}, "mean")
    assert weight * found["a"].item() == pytest.approx(value, abs=1e-5)


def test_the_sum_is_the_mean_times_the_number_of_features() -> None:
    found = feature_distances({"a": torch.tensor([[1.0, 2.0, 3.0]])}, {"a": torch.ones(1, 3)}, "sum")
    assert found["a"].item() == pytest.approx(5.0)


@pytest.mark.parametrize("modalities", [("audio",), TWO, THREE], ids=len)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_agrees_with_a_slow_reference(
    reduction: str, modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, weight=0.7, reduction=reduction)
    method, batch = method_of(made), next(made.ctx.train.in_order(8))
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    assert list(losses) == ["joint", *(f"teacher_{m}" for m in modalities)]
    expected = slow_umt(
        {m: x.tolist() for m, x in outputs.features.items()},
        {m: x.tolist() for m, x in method.teachers.features(batch).items()},
        0.7,
        reduction,
    )
    found = torch.stack([loss for name, loss in losses.items() if name != "joint"]).sum()
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_student_equal_to_its_teacher_has_no_extra_loss_and_no_gradient_from_it(
    trainer: Callable[..., Trainer],
) -> None:
    made = trainer()
    for m, teacher in made.ctx.teachers.items():
        made.ctx.model.encoders[m].load_state_dict(teacher.encoder)
    made.ctx.model.eval()  # as the teachers
    method, batch = method_of(made), next(made.ctx.train.in_order(8))
    losses = method.losses(made.ctx, method.forward(made.ctx, batch), batch)
    extra = losses["teacher_audio"] + losses["teacher_visual"]
    assert extra.item() == pytest.approx(0, abs=1e-12)  # rounding: one of them is computed with a graph
    extra.backward()
    gradients = [p.grad for p in made.ctx.model.encoders.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.abs().max() < 1e-6 for gradient in gradients)


def test_a_distance_reaches_its_own_encoder_alone(trainer: Callable[..., Trainer]) -> None:
    made = trainer(THREE)
    method, batch = method_of(made), next(made.ctx.train.in_order(8))
    method.losses(made.ctx, method.forward(made.ctx, batch), batch)["teacher_visual"].backward()
    groups = made.ctx.model.parameter_groups()
    assert [name for name, ps in groups.items() if any(p.grad is not None for p in ps)] == ["visual"]


@pytest.mark.parametrize("fusion", ["concat", "mmtm"])
def test_parameters_and_buffers_of_the_teachers_stay_bit_for_bit(fusion: str, trainer: Callable[..., Trainer]) -> None:
    made = trainer(fusion=fusion)
    made.train()
    teachers = {m: bits(teacher.encoder) for m, teacher in made_up_teachers(made.recipe).items()}
    assert {m: bits(encoder.state_dict()) for m, encoder in method_of(made).teachers.encoders.items()} == teachers
    assert made.ctx.model.training
    assert not any(module.training for module in method_of(made).teachers.modules())


def test_a_checkpoint_holds_no_teacher(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    assert made.state()["method"] == made.state()["extras"] == {}


def test_teachers_give_the_logits_of_their_runs(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    teachers = method_of(made).teachers
    batch = next(made.ctx.train.in_order(8))
    features = teachers.features(batch)
    for m, z in teachers.logits(features).items():
        head = made.ctx.teachers[m].head
        torch.testing.assert_close(z, features[m] @ head["weight"].T + head["bias"])
