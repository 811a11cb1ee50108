"""MMPareto: how two gradients of an encoder are combined, whose gradients it leaves alone, and what it equals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mmpareto import slow_combination
from support.training import bits, make_trainer, trained, weights
from torch import Tensor

from drcli.engine.trainer import Trainer
from drcli.methods.base import concatenated
from drcli.methods.mmpareto import MMPareto, combine, fused_weight
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of mmpareto before its first step."""

    def made(modalities: tuple[str, ...] = TWO, training: Any = None, **settings: Any) -> Trainer:
        blocks = {} if training is None else {"training": training}
        recipe = toy_recipe(modalities, method="mmpareto", methods={"mmpareto": settings}, **blocks)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def combined(fused: list[float], own: list[float], gamma: float = 1.5) -> tuple[Tensor, float]:
    g, h = torch.tensor(fused), torch.tensor(own)
    (found,), weight = combine([g + h], [h], gamma)
    return found, 1 - weight.item()


@pytest.mark.parametrize(
    ("fused", "own", "weight", "expected"),
    [
        ((1.0, 0.0), (-0.5, 0.5), 0.4, (0.335410, 1.006231)),
        ((1.0, 0.0), (-0.1, 0.2), 0.12, (0.247386, 1.360625)),
        ((1.0, 0.0), (0.5, 0.5), 0.5, (2.25, 0.75)),
    ],
    ids=["conflict", "longer sum", "agreement"],
)
@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_combinations_by_hand(fused: Any, own: Any, weight: float, expected: Any, factor: float) -> None:
    """Twice the gradients have the same weights and give twice the result."""
    found, k_0 = combined([factor * x for x in fused], [factor * x for x in own])
    assert k_0 == pytest.approx(weight, abs=1e-6)
    assert found.tolist() == pytest.approx([factor * x for x in expected], abs=1e-5)


def test_the_min_norm_point_is_orthogonal_to_the_difference() -> None:
    """G_0 = (1, 0), G_m = (-0.5, 0.5): 0.4 G_0 + 0.6 G_m = (0.1, 0.3)."""
    g, h = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 0.5])
    k_0 = fused_weight(g @ g, g @ h, h @ h)
    point = k_0 * g + (1 - k_0) * h
    assert point.tolist() == pytest.approx([0.1, 0.3], abs=1e-6)
    assert (point @ (g - h)).item() == pytest.approx(0.0, abs=1e-6)


def test_the_length_is_gamma_times_the_longer_of_combination_and_sum() -> None:
    assert combined([1.0, 0.0], [-0.5, 0.5])[0].norm().item() == pytest.approx(1.060660, abs=1e-5)
    assert combined([1.0, 0.0], [-0.1, 0.2])[0].norm().item() == pytest.approx(1.382932, abs=1e-5)


def test_gradients_that_are_0_or_opposite_give_numbers() -> None:
    assert combined([0.0, 0.0], [0.0, 2.0])[0].tolist() == pytest.approx([0.0, 3.0], abs=1e-5)
    assert combined([0.0, 2.0], [0.0, 0.0])[0].tolist() == pytest.approx([0.0, 3.0], abs=1e-5)
    assert combined([1.0, -1.0], [-1.0, 1.0])[0].tolist() == [0.0, 0.0]
    assert combined([0.0, 0.0], [0.0, 0.0])[0].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_the_literal_reference(seed: int) -> None:
    """Tensors of several shapes share one weight, and each has a length of its own."""
    generator = torch.Generator().manual_seed(seed)
    fused = [torch.randn(n, generator=generator) for n in (3, 4, 1)]
    own = [torch.randn(n, generator=generator) - (seed % 2) * g for n, g in zip((3, 4, 1), fused, strict=True)]
    found, weight = combine([g + h for g, h in zip(fused, own, strict=True)], own, 1.5)
    expected, k_0 = slow_combination([g.tolist() for g in fused], [h.tolist() for h in own], 1.5)
    assert 1 - weight.item() == pytest.approx(k_0, abs=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.tolist() == pytest.approx(theirs, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_a_step_combines_the_two_losses_of_each_encoder_and_of_nothing_else(
    modalities: tuple[str, ...], accumulate: int, make: Callable[..., Trainer]
) -> None:
    training = {"epochs": 1, "batch_size": 16, "accumulate": accumulate, "optimizer": {"name": "sgd", "lr": 0.05}}
    trainer = make(modalities, training)
    ctx, method, model = trainer.ctx, trainer.assembly.method, trainer.assembly.model
    assert isinstance(method, MMPareto)
    model.eval()  # parts of a batch and the whole of it give the same
    batch = next(ctx.train.in_order(30))
    outputs = method.forward(ctx, batch)
    losses = method.losses(ctx, outputs, batch)
    parameters = list(ctx.trainable)
    by_loss = {
        name: torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
        for name, loss in losses.items()
    }
    parts = [method.forward(ctx, part) for part in ctx.parts(batch)]
    for part, found in zip(ctx.parts(batch), parts, strict=True):
        scaled = {name: len(part.labels) / 30 * x for name, x in method.losses(ctx, found, part).items()}
        method.backward(ctx, scaled)
    method.modulate(ctx, concatenated(parts), batch)
    logged = ctx.take_logged()
    owner = {id(p): m for m, encoder in model.encoders.items() for p in encoder.parameters()}
    for m in modalities:
        rows = [i for i, p in enumerate(parameters) if owner.get(id(p)) == m]
        fused, own = ([by_loss[name][i].flatten().tolist() for i in rows] for name in ("joint", m))
        expected, k_0 = slow_combination(fused, own, 1.5)
        assert logged[f"coefficient/{m}"].item() == pytest.approx(1 - k_0, abs=1e-4)
        for i, wanted in zip(rows, expected, strict=True):
            gradient = parameters[i].grad
            assert gradient is not None
            assert gradient.flatten().tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    for i, parameter in enumerate(parameters):
        if id(parameter) not in owner:
            assert parameter.grad is not None
            torch.testing.assert_close(
                parameter.grad, sum(found[i] for found in by_loss.values()), rtol=1e-4, atol=1e-6
            )


def test_without_conflict_and_with_gamma_1_a_step_is_one_of_multi_loss() -> None:
    """Gradients that agree: k = 1/2, g = S, to the bit for a power of two."""
    total, own = [torch.tensor([1.5, 0.5])], [torch.tensor([0.5, 0.5])]
    (found,), weight = combine(total, own, 1.0)
    assert bits(found) == bits(total[0])
    assert weight.item() == 0.5


def test_one_modality_is_joint_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    methods: dict[str, Any] = {"mmpareto": {}, "joint": {}}
    runs = [trained(toy_recipe(("audio",), method=name, methods=methods), tmp_path / name) for name in methods]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))
