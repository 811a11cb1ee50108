"""PDF: the weights, what predicts them, and what must get no gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.g2d import slow_softmax
from reference.pdf import slow_beliefs, slow_calibration, slow_fused
from support.training import make_trainer
from torch import nn

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.methods.pdf import PDF, beliefs, calibration, holo_confidences, predictor
from drcli.recipe.schema import Recipe

ONE = ("audio",)
TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of pdf before its first step."""

    def make(modalities: tuple[str, ...] = TWO, **settings: Any) -> Trainer:
        training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_recipe(modalities, method="pdf", methods={"pdf": settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> PDF:
    method = trainer.assembly.method
    assert isinstance(method, PDF)
    return method


def a_batch(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def tensors(*values: float) -> dict[str, torch.Tensor]:
    return {m: torch.tensor([value]) for m, value in zip("avt", values, strict=False)}


def numbers(found: dict[str, torch.Tensor]) -> list[float]:
    return [value.item() for value in found.values()]


def test_weights_worked_by_hand() -> None:
    assert numbers(holo_confidences(tensors(0.8, 0.4))) == pytest.approx([0.804163, 0.195837], abs=1e-6)
    assert numbers(beliefs(tensors(0.8, 0.4))) == pytest.approx([0.732692, 0.267308], abs=1e-6)


def test_confidences_of_0_and_1_give_finite_weights() -> None:
    for pair in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0)):
        assert sum(numbers(beliefs(tensors(*pair)))) == pytest.approx(1)


def test_a_single_modality_has_weight_1() -> None:
    assert numbers(beliefs(tensors(0.3), tensors(0.5))) == [1.0]


@pytest.mark.parametrize("count", [2, 3])
def test_weights_agree_with_a_slow_reference(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    names = "avt"[:count]
    for _ in range(10):
        c = {m: torch.rand(1, generator=generator) for m in names}
        z = {m: torch.randn(1, 4, generator=generator) for m in names}
        plain, rows = {m: x.item() for m, x in c.items()}, {m: x[0].tolist() for m, x in z.items()}
        assert numbers(calibration(z)) == pytest.approx(list(slow_calibration(rows).values()), rel=1e-4)
        assert numbers(beliefs(c)) == pytest.approx(list(slow_beliefs(plain).values()), rel=1e-4)
        calibrated = slow_beliefs(plain, rows)
        assert numbers(beliefs(c, calibration(z))) == pytest.approx(list(calibrated.values()), rel=1e-4)


def test_the_surest_modality_is_not_lowered_and_uniform_ones_are_equal() -> None:
    assert numbers(calibration({"a": torch.tensor([[3.0, 0.0]]), "v": torch.tensor([[1.0, 0.0]])}))[0] == 1
    assert numbers(calibration({"a": torch.zeros(1, 2), "v": torch.zeros(1, 2)})) == [1.0, 1.0]


@pytest.mark.parametrize("modalities", [ONE, TWO, THREE], ids=len)
def test_training_weighs_without_calibration_and_prediction_with_it(
    modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities)
    method, batch, model = method_of(made), a_batch(made), made.ctx.model
    model.eval()
    features = model.encode(batch.inputs)
    z = {m: x.tolist() for m, x in model.unimodal_logits(features, "slice").items()}
    c = {m: method.predictors[m](features[m])[:, 0].tolist() for m in modalities}
    expected: dict[bool, list[list[float]]] = {True: [], False: []}
    for i in range(len(batch.labels)):
        rows, ours = {m: z[m][i] for m in modalities}, {m: c[m][i] for m in modalities}
        for calibrated, found in expected.items():
            found.append(slow_fused(rows, slow_beliefs(ours, rows if calibrated else None)))
    torch.testing.assert_close(method.forward(made.ctx, batch).logits, torch.tensor(expected[False]))
    torch.testing.assert_close(method.predict(model, batch).logits, torch.tensor(expected[True]))


def test_a_predictor_is_trained_on_its_distance_to_the_right_probability_alone(
    trainer: Callable[..., Trainer],
) -> None:
    made = trainer()
    method, batch = method_of(made), a_batch(made)
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    z = made.ctx.model.unimodal_logits(outputs.features, "slice")["audio"].tolist()
    c = method.predictors["audio"](outputs.features["audio"])[:, 0].tolist()
    away = [abs(c[i] - slow_softmax(z[i])[label]) for i, label in enumerate(batch.labels.tolist())]
    assert losses["confidence_audio"].item() == pytest.approx(sum(away) / len(away), rel=1e-4)
    losses["confidence_audio"].backward(retain_graph=True)
    assert all(p.grad is None for p in made.ctx.model.parameters())
    assert all(p.grad is not None for p in method.predictors["audio"].parameters())
    method.predictors.zero_grad(set_to_none=True)
    losses["joint"].backward()
    assert all(p.grad is None for p in method.predictors.parameters())
    assert all(p.grad is not None for p in made.ctx.model.parameters())


@pytest.mark.parametrize(("activation", "is_linear"), [(nn.ReLU, False), (nn.Identity, True)])
def test_without_an_activation_the_three_layers_are_one(activation: type[nn.Module], is_linear: bool) -> None:
    torch.manual_seed(0)
    layers = predictor(4, activation)[:-1]
    one, other = torch.randn(2, 5, 4)
    middle = layers((one + other) / 2)
    assert torch.allclose(middle, (layers(one) + layers(other)) / 2, atol=1e-6) == is_linear
