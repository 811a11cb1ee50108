"""ARL: the factors of the encoders, when they act, and what is left without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.arl import slow_asymmetry
from support.training import bits, make_trainer
from torch.nn import functional

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.arl import ARL, asymmetry, weights_of
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of arl before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: Any = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="arl", methods={"arl": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


@pytest.mark.parametrize(
    ("dominance", "uncertainty", "expected"),
    [
        ((0.6, 0.4), (0.7, 0.3), (0.083173, 0.916827)),
        ((0.5, 0.5), (0.9, 0.1), (0.119203, 0.880797)),
        ((0.5, 0.5), (0.5, 0.5), (0.5, 0.5)),
    ],
    ids=["shares", "clamped", "equal"],
)
def test_weights_by_hand(dominance: Any, uncertainty: Any, expected: Any) -> None:
    """I = (.3, .7): w = softmax(8 * .4 * .3, 8 * .6 * .7). A share of .1 counts as .3: I = (.25, .75)."""
    found = weights_of(torch.tensor(dominance), torch.tensor(uncertainty), 8.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_logits_of_0_give_equal_weights() -> None:
    found = asymmetry({m: torch.zeros(4, 3) for m in THREE}, 8.0)
    assert {m: w.item() for m, w in found.items()} == pytest.approx(dict.fromkeys(THREE, 1 / 3))


def test_logits_that_are_certain_give_weights_that_are_numbers() -> None:
    certain = {m: torch.tensor([[500.0, 0.0], [0.0, 500.0]]) for m in TWO}
    assert [w.item() for w in asymmetry(certain, 8.0).values()] == [0.5, 0.5]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_agrees_with_the_literal_reference(modalities: tuple[str, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = {m: (1 + n) * torch.randn(8, 5, generator=generator) for n, m in enumerate(modalities)}
    expected = slow_asymmetry({m: z.tolist() for m, z in logits.items()}, 6.0)
    assert {m: w.item() for m, w in asymmetry(logits, 6.0).items()} == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_losses_go_through_the_shared_head_with_the_other_features_0(
    modalities: tuple[str, ...], make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, gamma=3.0, starts=2)
    ctx, method = trainer.ctx, trainer.assembly.method
    batch = next(ctx.train.in_order(16))
    outputs = method.forward(ctx, batch)
    for epoch, weight in ((1, 1.0), (2, 3.0)):
        ctx.epoch = epoch
        losses = method.losses(ctx, outputs, batch)
        assert list(losses) == ["joint", *modalities]
        for m in modalities:
            alone = {n: h if n == m else 0 * h for n, h in outputs.features.items()}
            expected = weight * functional.cross_entropy(ctx.model.fusion(alone), batch.labels)
            torch.testing.assert_close(losses[m], expected)


@pytest.mark.parametrize("form", ["paper", "code"])
def test_gradients_of_encoders_are_scaled_from_the_first_epoch_of_the_window_on(
    form: str, make: Callable[..., Trainer]
) -> None:
    trainer = make(THREE, starts=1, form=form)
    ctx, method = trainer.ctx, trainer.assembly.method
    assert isinstance(method, ARL)
    batch = next(ctx.train.in_order(16))
    outputs = method.forward(ctx, batch)
    method.backward(ctx, method.losses(ctx, outputs, batch))
    before = {g: [p.grad.clone() for p in ps if p.grad is not None] for g, ps in ctx.model.parameter_groups().items()}
    expected = slow_asymmetry(
        {m: z.tolist() for m, z in ctx.model.unimodal_logits(outputs.features, "zero_others").items()}, 8.0
    )
    for epoch in (0, 1):
        ctx.epoch = epoch
        method.modulate(ctx, outputs, batch)
        acts = epoch == 1 and form == "paper"
        for group, parameters in ctx.model.parameter_groups().items():
            factor = 1 + expected[group] if acts and group != "fusion" else 1.0
            for old, parameter in zip(before[group], parameters, strict=True):
                assert parameter.grad is not None
                torch.testing.assert_close(parameter.grad, factor * old, rtol=1e-4, atol=1e-8)
        logged = {name: value.item() for name, value in ctx.take_logged().items()}
        assert logged == pytest.approx(
            {f"coefficient/{m}": 1 + w for m, w in expected.items()} if acts else {}, abs=1e-4
        )


def test_the_form_of_the_code_leaves_every_bit_of_the_gradients(make: Callable[..., Trainer]) -> None:
    found = []
    for settings in ({"form": "code", "starts": 0}, {"form": "paper", "starts": 9, "gamma": 1.0}):
        trainer = make(gamma=1.0, **{k: v for k, v in settings.items() if k != "gamma"})
        trainer.assembly.method.training_step(trainer.ctx, next(trainer.ctx.train.in_order(16)))
        found.append(bits([p.grad for p in trainer.ctx.model.parameters()]))
    assert found[0] == found[1]


def test_what_has_no_effect_is_warned_of(make: Callable[..., Trainer]) -> None:
    trainer = make(starts=4)
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == ["starts: 4, 4 epochs: no gradient is scaled"]
    trainer = make(starts=3)
    assert list(trainer.assembly.method.warnings(trainer.ctx)) == []


def test_fusions_between_encoders_are_refused(make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = mmtm +must be concat or sum or .*late_transformer for arl"):
        make(fusion="mmtm")
