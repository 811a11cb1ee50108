"""MCR: the divergences of permuted features, where their gradients go, the contrastive loss, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mcr import slow_contrast, slow_divergences, slow_jensen_shannon
from support.training import bits, make_trainer
from torch import Tensor
from torch.nn import functional

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.mcr import MCR, contrastive, divergences, jensen_shannon
from drcli.models.fusion import Concat
from drcli.recipe.load import recipe_from_dict

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")
ONLY: dict[str, Any] = {"weight": 0.0, "contrast": 0.0, "lambda": 1.0, "permutations": 3}


@pytest.fixture
def make(toy_dict: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of mcr before its first step."""

    def made(modalities: tuple[str, ...] = TWO, **settings: Any) -> Trainer:
        fusion, encoders = settings.pop("fusion", "concat"), settings.pop("encoders", None)
        blocks = toy_dict(modalities, fusion=fusion, method="mcr", methods={"mcr": settings})
        recipe = recipe_from_dict({**blocks, "modalities": encoders or blocks["modalities"]}, where="the test's recipe")
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def method_of(trainer: Trainer) -> MCR:
    method = trainer.assembly.method
    assert isinstance(method, MCR)
    return method


@pytest.mark.parametrize(
    ("z", "other", "expected"), [((1.0, 0.0), (0.0, 1.0), 0.110944), ((2.0, 0.0), (0.0, 0.0), 0.089541)]
)
def test_divergences_by_hand(z: Any, other: Any, expected: float) -> None:
    found = jensen_shannon(torch.tensor([z]), torch.tensor([other])).item()
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_divergence_of_opposite_certainties_is_ln_2() -> None:
    certain = jensen_shannon(torch.tensor([[500.0, 0.0]]), torch.tensor([[0.0, 500.0]])).item()
    assert certain == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("fusion", ["concat", "sum", "film"])
def test_the_identity_permutation_changes_nothing(fusion: str, make: Callable[..., Trainer]) -> None:
    """The bias of the fusion is in both predictions."""
    model = make(fusion=fusion).ctx.model
    features = {m: torch.randn(4, model.fusion.widths[m], generator=torch.Generator().manual_seed(0)) for m in TWO}
    found = divergences(model.fusion, features, {m: torch.arange(4).repeat(2) for m in TWO})
    assert [value.item() for value in found.values()] == pytest.approx([0.0, 0.0], abs=1e-7)


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_divergences_are_those_of_the_literal_reference(
    modalities: tuple[str, ...], make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, permutations=3)
    ctx, method = trainer.ctx, method_of(trainer)
    fusion = ctx.model.fusion
    assert isinstance(fusion, Concat)
    outputs = method.forward(ctx, next(ctx.train.in_order(6)))
    orders = method._orders(ctx, outputs.features)
    zero = fusion.linear.bias / len(modalities)
    terms = {m: (z - zero).tolist() for m, z in fusion.terms(outputs.features).items()}
    listed = {m: order.reshape(3, 6).tolist() for m, order in orders.items()}
    assert all(sorted(order) == list(range(6)) for found in listed.values() for order in found)
    expected = slow_divergences(terms, fusion.linear.bias.tolist(), listed)
    found = divergences(fusion, outputs.features, orders)
    assert {m: value.item() for m, value in found.items()} == pytest.approx(expected, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_the_other_terms_are_those_of_the_literal_reference(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z, other = torch.randn(2, 5, 4, generator=generator).unbind()
    assert jensen_shannon(z, other).item() == pytest.approx(slow_jensen_shannon(z.tolist(), other.tolist()), rel=1e-4)
    units = functional.normalize(torch.randn(2 + seed % 2, 6, 3, generator=generator), dim=2)
    labels = torch.tensor([0, 1, 2, 0, 1, 1])
    expected = slow_contrast(units.tolist(), labels.tolist(), 0.1)
    assert contrastive(units.unbind(), labels, 0.1).item() == pytest.approx(expected, rel=1e-4)


def test_the_contrastive_loss_by_hand() -> None:
    """Two samples of two classes, u = v = identity, temperature 1: one positive and two negatives, log(e + 2) - 1."""
    found = contrastive([torch.eye(2), torch.eye(2)], torch.tensor([0, 1]), 1.0).item()
    assert found == pytest.approx(math.log(math.e + 2) - 1, abs=1e-6)


def test_a_batch_of_one_class_has_no_contrast_and_a_gradient_that_is_a_number() -> None:
    units = torch.eye(3).requires_grad_()
    value = contrastive([units, units], torch.tensor([1, 1, 1]), 0.1)
    value.backward()
    assert value.item() == 0.0
    assert units.grad is not None
    assert units.grad.abs().max().item() == 0.0


@pytest.mark.parametrize(("strategy", "k"), [("greedy", -1.0), ("independent", 0.0), ("collaborative", 1.0)])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_the_gradient_of_an_encoder_is_that_of_its_own_divergence_and_k_times_those_of_the_others(
    modalities: tuple[str, ...], strategy: str, k: float, make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, **ONLY, strategy=strategy)
    ctx, method = trainer.ctx, method_of(trainer)
    batch = next(ctx.train.in_order(6))
    outputs = method.forward(ctx, batch)
    found = method.losses(ctx, outputs, batch)
    assert list(found) == ["joint", "regulariser"]
    ours = torch.autograd.grad(found["regulariser"], list(outputs.features.values()), retain_graph=True)
    values = divergences(ctx.model.fusion, outputs.features, method._orders(ctx, outputs.features))
    for m, gradient in zip(modalities, ours, strict=True):
        expected: Tensor = torch.zeros_like(gradient)
        for n, value in values.items():
            (slope,) = torch.autograd.grad(value, outputs.features[m], retain_graph=True)
            expected = expected - (1.0 if n == m else k) * slope
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-6)
    logged = {name: value.item() for name, value in ctx.take_logged().items()}
    assert logged == pytest.approx({f"coefficient/{m}": value.item() for m, value in values.items()}, rel=1e-3)


@pytest.mark.parametrize(("strategy", "times"), [("greedy", 0.0), ("independent", 1.0), ("collaborative", 1.0)])
def test_the_gradient_of_the_fusion_is_that_of_the_sum_of_divergences_once_or_none(
    strategy: str, times: float, make: Callable[..., Trainer]
) -> None:
    """Of greedy, each J is there with both signs; of the others, each with a minus once."""
    trainer = make(**ONLY, strategy=strategy)
    ctx, method = trainer.ctx, method_of(trainer)
    batch = next(ctx.train.in_order(6))
    outputs = method.forward(ctx, batch)
    regulariser = method.losses(ctx, outputs, batch)["regulariser"]
    weight = ctx.model.fusion.get_parameter("linear.weight")
    (ours,) = torch.autograd.grad(regulariser, weight, retain_graph=True)
    values = divergences(ctx.model.fusion, outputs.features, method._orders(ctx, outputs.features))
    (slope,) = torch.autograd.grad(torch.stack(list(values.values())).sum(), weight)
    assert slope.abs().max() > 1e-5
    torch.testing.assert_close(ours, -times * slope, rtol=1e-3, atol=1e-7)


def test_two_greedy_encoders_cancel_in_value_and_not_in_gradient(make: Callable[..., Trainer]) -> None:
    """R = -J_a + J_v - J_v + J_a."""
    trainer = make(**ONLY)
    ctx, method = trainer.ctx, method_of(trainer)
    batch = next(ctx.train.in_order(16))
    outputs = method.forward(ctx, batch)
    regulariser = method.losses(ctx, outputs, batch)["regulariser"]
    assert regulariser.item() == pytest.approx(0.0, abs=1e-7)
    (gradient,) = torch.autograd.grad(regulariser, outputs.features["audio"])
    assert gradient.abs().max() > 1e-5


@pytest.mark.parametrize("detached", [False, True])
def test_encoders_learn_from_the_unimodal_losses_unless_told_not_to(
    detached: bool, make: Callable[..., Trainer]
) -> None:
    trainer = make(detached=detached)
    ctx, method = trainer.ctx, method_of(trainer)
    batch = next(ctx.train.in_order(16))
    losses = method.losses(ctx, method.forward(ctx, batch), batch)
    assert list(losses) == ["joint", *TWO, "regulariser", "contrast"]
    losses["audio"].backward()
    assert all((p.grad is None) == detached for p in ctx.model.encoders["audio"].parameters())
    assert all(p.grad is not None for p in method.heads["audio"].parameters())


def test_other_steps_permute_otherwise(make: Callable[..., Trainer]) -> None:
    trainer = make()
    ctx, method = trainer.ctx, method_of(trainer)
    features = {m: torch.zeros(8, 2) for m in TWO}
    first = method._orders(ctx, features)
    assert bits(method._orders(ctx, features)) == bits(first)
    ctx.step = 1
    assert bits(method._orders(ctx, features)) != bits(first)
    assert bits(first["audio"]) != bits(first["visual"])


def test_encoders_of_unequal_widths_are_refused_with_a_contrastive_loss(make: Callable[..., Trainer]) -> None:
    encoders = {m: {"backbone": "resnet_small", "width": width} for m, width in zip(TWO, (4, 8), strict=True)}
    with pytest.raises(
        RecipeError, match=r"mcr\.contrast = 1\.0 +must be 0 for encoders with unequal numbers of features"
    ):
        make(encoders=encoders)
    assert method_of(make(encoders=encoders, contrast=0.0)).settings.contrast == 0.0


def test_fusions_between_encoders_are_refused(make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or sum or .*late_transformer for mcr"):
        make(fusion="mmtm")
