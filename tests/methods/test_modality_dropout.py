"""Modality dropout: what is dropped, how often, and what takes its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.modality_dropout import slow_kept, slow_left
from support.training import bits, make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.base import Method
from drcli.methods.modality_dropout import ModalityDropout, kept_modalities
from drcli.recipe.schema import Recipe

ONE = ("audio",)
TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of modality_dropout before its first step."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        name = "modality_dropout"
        training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_recipe(modalities, fusion=fusion, method=name, methods={name: settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> ModalityDropout:
    method = trainer.assembly.method
    assert isinstance(method, ModalityDropout)
    return method


def a_batch(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def draws(modalities: tuple[str, ...], rows: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {m: torch.rand(rows, generator=generator) for m in modalities}


def test_what_is_kept_worked_by_hand() -> None:
    drawn = {"a": torch.tensor([0.1, 0.9, 0.1, 0.4]), "v": torch.tensor([0.2, 0.3, 0.8, 0.0])}
    found = {m: kept.tolist() for m, kept in kept_modalities(drawn, 0.5).items()}
    assert found == {"a": [False, True, False, True], "v": [True, False, True, False]}


@pytest.mark.parametrize("modalities", [ONE, TWO, THREE], ids=len)
@pytest.mark.parametrize("p", [0.0, 0.3, 0.8, 1.0])
def test_agrees_with_a_slow_reference_and_drops_never_all(p: float, modalities: tuple[str, ...]) -> None:
    drawn = draws(modalities, 200)
    found = {m: kept.tolist() for m, kept in kept_modalities(drawn, p).items()}
    assert found == slow_kept({m: u.tolist() for m, u in drawn.items()}, p)
    assert all(any(found[m][i] for m in modalities) for i in range(200))
    if p == 0:
        assert all(all(kept) for kept in found.values())
    if p == 1:
        assert all(sum(found[m][i] for m in modalities) == 1 for i in range(200))


@pytest.mark.parametrize(("p", "missing"), [(0.5, 0.375), (0.2, 0.18), (1.0, 0.5)])
def test_of_two_each_is_missing_as_often_as_the_formula_says(p: float, missing: float) -> None:
    """p - p^2 / 2; 40,000 rows have a standard error of at most 0.0025."""
    for kept in kept_modalities(draws(TWO, 40_000), p).values():
        assert 1 - kept.float().mean().item() == pytest.approx(missing, abs=0.01)


@pytest.mark.parametrize("replacement", ["zero", "token"])
@pytest.mark.parametrize("modalities", [ONE, TWO, THREE], ids=len)
def test_the_fused_logits_are_those_of_what_is_left(
    modalities: tuple[str, ...], replacement: str, trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, p=0.6, replacement=replacement)
    method, batch = method_of(made), a_batch(made)
    tokens = {m: [0.0] * width for m, width in made.ctx.model.fusion.widths.items()}
    if replacement == "token":
        for number, token in enumerate(method.tokens.values(), start=1):
            token.data.fill_(number)
        tokens = {m: token.tolist() for m, token in method.tokens.items()}
    method.on_epoch_start(made.ctx)
    outputs = method.forward(made.ctx, batch)
    kept = {m: method.kept[m][batch.index].tolist() for m in modalities}
    left = slow_left({m: h.tolist() for m, h in outputs.features.items()}, kept, tokens)
    expected = made.ctx.model.fusion({m: torch.tensor(rows) for m, rows in left.items()})
    torch.testing.assert_close(outputs.logits, expected)
    assert all(all(rows) for rows in kept.values()) == (len(modalities) == 1)


def test_where_nothing_is_dropped_the_logits_are_those_of_joint_training_in_any_precision(
    trainer: Callable[..., Trainer],
) -> None:
    made = trainer(p=1e-12)
    made.ctx.model.precision = "bf16"
    method, batch = method_of(made), a_batch(made)
    ours, joint = method.forward(made.ctx, batch), Method.forward(method, made.ctx, batch)
    assert all(bool(kept.all()) for kept in method.kept.values())
    assert bits(ours.logits) == bits(joint.logits)


def test_a_sample_gives_a_dropped_encoder_no_gradient_and_its_token_one(trainer: Callable[..., Trainer]) -> None:
    made = trainer(replacement="token", p=0.5)
    method, batch = method_of(made), a_batch(made)
    rows = len(made.ctx.train)
    method.kept = {"audio": torch.ones(rows, dtype=torch.bool), "visual": torch.zeros(rows, dtype=torch.bool)}
    method.backward(made.ctx, method.losses(made.ctx, method.forward(made.ctx, batch), batch))
    reached = {
        name: any(p.grad is not None and bool(p.grad.any()) for p in ps)
        for name, ps in made.ctx.model.parameter_groups().items()
    }
    assert reached == {"audio": True, "visual": False, "fusion": True}
    token = method.tokens["visual"].grad
    assert token is not None
    assert bool(token.any())
    assert not bool(method.tokens["audio"].grad.any())


def test_rows_keep_the_same_in_an_epoch_and_other_things_in_the_next(trainer: Callable[..., Trainer]) -> None:
    made = trainer(p=0.5)
    method = method_of(made)
    drawn = []
    for epoch in (0, 0, 1):
        made.ctx.epoch = epoch
        method.on_epoch_start(made.ctx)
        drawn.append(method.kept["audio"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_evaluation_drops_nothing(trainer: Callable[..., Trainer]) -> None:
    made = trainer(p=1.0)
    batch = a_batch(made)
    predicted = method_of(made).predict(made.ctx.model, batch)
    assert torch.equal(predicted.logits, made.ctx.model.fusion(predicted.features))


@pytest.mark.parametrize("fusion", ["centralnet", "mmtm"])
def test_fusions_that_exchange_before_are_refused(fusion: str, trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = .*must be concat or sum or .*late_transformer for"):
        trainer(fusion=fusion)
