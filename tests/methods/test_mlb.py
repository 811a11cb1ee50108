"""MLB: by how much gradients are scaled, which of them, and what it equals where scores are equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mlb import slow_balancing, slow_scores
from support.training import bits, make_trainer, trained, weights
from torch import Tensor

from drcli.engine.trainer import Trainer
from drcli.methods.base import concatenated
from drcli.methods.mlb import MLB, balancing
from drcli.methods.parts.unimodal_scores import right_scores
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of mlb before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="mlb", methods={"mlb": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def factors(scores: Mapping[str, float], alpha: float, ceiling: float = 2.0) -> dict[str, float]:
    tensors = {m: torch.tensor(s) for m, s in scores.items()}
    return {m: c.item() for m, c in balancing(tensors, alpha, ceiling).items()}


@pytest.mark.parametrize(("alpha", "expected"), [(0.8, (0.620051, 1.664037)), (1.0, (0.537883, 1.761594))])
def test_coefficients_by_hand(alpha: float, expected: tuple[float, float]) -> None:
    """s = 0.6 and 0.3: r = 0.5 and 2, c = 1 - tanh(alpha / 2) and 1 + tanh(alpha)."""
    found = factors({"audio": 0.6, "visual": 0.3}, alpha)
    assert found == pytest.approx(dict(zip(TWO, expected, strict=True)), abs=1e-6)


def test_a_ceiling_bounds_what_is_behind_and_leaves_what_is_ahead_by_hand() -> None:
    """ceiling 4: c = 1 + 3 tanh(0.8) = 2.992110 for the modality behind."""
    found = factors({"audio": 0.6, "visual": 0.3}, 0.8, 4.0)
    assert found == pytest.approx({"audio": 0.620051, "visual": 2.992110}, abs=1e-6)
    assert factors({"audio": 0.6, "visual": 1e-30}, 0.8, 4.0)["visual"] == pytest.approx(4.0)


def test_equal_scores_scale_nothing() -> None:
    assert factors({"audio": 0.4, "visual": 0.4, "text": 0.4}, 0.8) == dict.fromkeys(THREE, 1.0)


@pytest.mark.parametrize("scores", [(0.0, 0.0), (1.0, 0.0)])
def test_extreme_scores_give_coefficients_within_the_bounds(scores: tuple[float, float]) -> None:
    found = factors(dict(zip(TWO, scores, strict=True)), 0.8)
    assert all(0.0 < c <= 2.0 for c in found.values())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_agrees_with_the_literal_reference(modalities: tuple[str, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(5, (8,), generator=generator)
    logits = {m: 2 * torch.randn(8, 5, generator=generator) for m in modalities}
    expected = slow_balancing(slow_scores({m: z.tolist() for m, z in logits.items()}, labels.tolist()), 0.8, 3.0)
    found = balancing(right_scores(logits, labels), 0.8, 3.0)
    assert {m: c.item() for m, c in found.items()} == pytest.approx(expected, abs=1e-5)


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    model, extras = trainer.assembly.model, trainer.assembly.extras
    named = [*model.named_parameters(), *extras.named_parameters()]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_encoders_and_the_weights_that_read_them_are_scaled_and_nothing_else(
    modalities: tuple[str, ...], fusion: str, make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, fusion)
    ctx, method = trainer.ctx, trainer.assembly.method
    assert isinstance(method, MLB)
    batch = next(ctx.train.in_order(30))
    outputs = method.forward(ctx, batch)
    method.backward(ctx, method.losses(ctx, outputs, batch))
    before = gradients(trainer)
    method.modulate(ctx, concatenated([outputs]), batch)
    c = {m: ctx._logged[f"coefficient/{m}"][0] for m in modalities}
    assert all(factor != 1 for factor in c.values())
    for name, gradient in gradients(trainer).items():
        expected = before[name].clone()
        m = next((m for m in modalities if f".{m}." in f".{name}"), None)
        if name == "fusion.linear.weight":
            width = expected.shape[1] // len(modalities)
            for number, n in enumerate(modalities):
                expected[:, number * width : (number + 1) * width] *= c[n]
        elif m is not None and (name.startswith("encoders") or name.endswith("weight")):
            expected *= c[m]
        assert bits(gradient) == bits(expected), name


def test_other_fusions_have_encoders_and_own_heads_scaled(make: Callable[..., Trainer]) -> None:
    trainer = make(fusion="film")
    ctx, method = trainer.ctx, trainer.assembly.method
    batch = next(ctx.train.in_order(30))
    outputs = method.forward(ctx, batch)
    method.backward(ctx, method.losses(ctx, outputs, batch))
    before = gradients(trainer)
    method.modulate(ctx, concatenated([outputs]), batch)
    same = {name for name, gradient in gradients(trainer).items() if bits(gradient) == bits(before[name])}
    heads = {name for name in before if not name.startswith(("encoders", "fusion"))}
    assert same == {name for name in before if name.startswith("fusion")} | {n for n in heads if n.endswith("bias")}


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_alpha_0_is_multi_loss_bit_for_bit(
    modalities: tuple[str, ...], toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    methods: dict[str, Any] = {"mlb": {"alpha": 0.0}, "multi_loss": {}}
    runs = [trained(toy_recipe(modalities, method=n, methods=methods), tmp_path / n) for n in methods]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))


def test_adaptive_optimisers_are_warned_of(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "adam", "lr": 0.01}}
    made = make_trainer(toy_recipe(method="mlb", methods={"mlb": {}}, training=training), tmp_path)
    assert list(made.assembly.method.warnings(made.ctx)) == [
        "adam divides gradients by their size, which mostly undoes the modulation"
    ]
