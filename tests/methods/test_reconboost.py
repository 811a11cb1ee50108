"""ReconBoost: its stages, its losses, its members."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.reconboost import slow_agreement, slow_residual, slow_sum
from support.training import bits, make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.parts.residual import residual_loss
from drcli.methods.reconboost import ReconBoost
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "text", "visual")
SHORT = {"alone": 1, "together": 1, "hidden": 8}
MOMENTUM = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of ReconBoost before its first step; stages are one epoch alone, and one together."""

    def make(modalities: tuple[str, ...] = TWO, epochs: int = 4, **settings: Any) -> Trainer:
        training = {"epochs": epochs, "batch_size": 20, "optimizer": MOMENTUM}
        methods = {"reconboost": {**SHORT, **settings}}
        recipe = toy_recipe(modalities, method="reconboost", methods=methods, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> ReconBoost:
    method = trainer.assembly.method
    assert isinstance(method, ReconBoost)
    return method


def at(trainer: Trainer, epoch: int) -> Trainer:
    """The trainer, its method as it is in an epoch."""
    trainer.ctx.epoch = epoch
    method_of(trainer).on_epoch_start(trainer.ctx)
    return trainer


def first(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


@pytest.mark.parametrize(("right", "factor"), [(0.0, 0.833333), (0.5, 0.75), (1.0, 0.666667)])
def test_factors_worked_by_hand(right: float, factor: float) -> None:
    """C = 6, w1 = 5, w2 = 1: a sample's cross-entropy counts 5 / 6 where the others know nothing, 4 / 6 at most."""
    others = torch.tensor([[right, *[(1 - right) / 5] * 5]], dtype=torch.float64).log()
    logits = torch.zeros(1, 6, dtype=torch.float64)
    found = 5 / 6 * residual_loss(logits, others, torch.tensor([0]), 1 / 5)
    assert found.item() == pytest.approx(factor * 1.791759, abs=1e-6)


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_losses_agree_with_a_slow_reference(modalities: tuple[str, ...], trainer: Callable[..., Trainer]) -> None:
    made = at(trainer(modalities, members="all", w1=3.0, w2=2.0, agreement=0.7), 2)  # the second stage: text or visual
    method, batch = method_of(made), first(made)
    with torch.no_grad():
        method.boosted.rate.fill_(1.5)
        for parameter in method.boosted.head.parameters():
            parameter.mul_(3)
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    picked = modalities[1]
    logits = {m: method.boosted.head(x).tolist() for m, x in outputs.features.items()}
    others = slow_sum({m: z for m, z in logits.items() if m != picked}, 1.5)
    labels = batch.labels.tolist()
    assert losses["residual"].item() == pytest.approx(slow_residual(logits[picked], others, labels, 3, 2), rel=1e-5)
    agreement = 0.7 * slow_agreement(logits[picked], logits["audio"])
    assert losses["agreement"].item() == pytest.approx(agreement, rel=1e-4)
    torch.testing.assert_close(outputs.logits, torch.tensor(slow_sum(logits, 1.5)), rtol=1e-4, atol=1e-5)


def test_the_first_stage_has_no_others_and_no_agreement(trainer: Callable[..., Trainer]) -> None:
    """f of nobody is 0, so that q = 1 / 3 for each of three classes."""
    made = at(trainer(), 0)
    method, batch = method_of(made), first(made)
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    logits = method.boosted.head(outputs.features["audio"]).tolist()
    expected = slow_residual(logits, [[0.0] * 3] * 16, batch.labels.tolist(), 5, 1)
    assert {name: loss.item() for name, loss in losses.items()} == {"residual": pytest.approx(expected, rel=1e-5)}


@pytest.mark.parametrize(("epoch", "names"), [(0, ["residual"]), (2, ["residual", "agreement"])])
def test_the_agreement_begins_with_the_second_stage_whoever_is_a_member(
    epoch: int, names: list[str], trainer: Callable[..., Trainer]
) -> None:
    made = at(trainer(members="all"), epoch)
    method, batch = method_of(made), first(made)
    assert list(method.losses(made.ctx, method.forward(made.ctx, batch), batch)) == names


def test_the_agreement_pulls_the_picked_modality_alone(trainer: Callable[..., Trainer]) -> None:
    made = trainer(members="all")
    gradients = {}
    for weight in (0.0, 10.0):
        made = at(trainer(members="all", agreement=weight), 2)
        method, batch = method_of(made), first(made)
        method.backward(made.ctx, method.losses(made.ctx, method.forward(made.ctx, batch), batch))
        gradients[weight] = [p.grad for p in made.ctx.model.encoders["visual"].parameters()]
        assert all(p.grad is None for p in made.ctx.model.encoders["audio"].parameters())
    assert any(not torch.equal(a, b) for a, b in zip(*gradients.values(), strict=True) if a is not None)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ("picked", [{"audio"}, {"audio"}, {"visual"}, {"audio", "visual"}, {"audio"}, {"audio", "visual"}]),
        ("all", [{"audio"}, {"audio", "visual"}, {"visual"}, {"audio", "visual"}, {"audio"}, {"audio", "visual"}]),
    ],
)
def test_stages_train_one_modality_and_then_the_members(
    members: str, expected: list[set[str]], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(epochs=6, members=members)
    changed, rates = [], []
    for epoch in range(6):
        before = {m: bits(made.ctx.model.encoders[m].state_dict()) for m in TWO}
        rates.append(method_of(made).boosted.rate.item())
        made._epoch(epoch)
        changed.append({m for m in TWO if bits(made.ctx.model.encoders[m].state_dict()) != before[m]})
    assert changed == expected
    assert rates[0] == rates[1] == 1
    assert len(set(rates[1:])) == 3  # it moves in the parts together only
    assert bits(made.ctx.model.fusion.state_dict()) == bits(trainer().ctx.model.fusion.state_dict())


def test_a_modality_that_was_never_picked_does_not_predict(trainer: Callable[..., Trainer]) -> None:
    made = at(trainer(THREE), 1)
    method, batch = method_of(made), first(made)
    made.ctx.model.eval()
    outputs = method.predict(made.assembly.model, batch)
    assert set(outputs.features) == set(THREE)
    torch.testing.assert_close(outputs.logits, method.boosted.rate * method.boosted.head(outputs.features["audio"]))
    everyone = at(made, 4)
    outputs = method.predict(everyone.assembly.model, batch)
    summed = torch.stack([method.boosted.head(x) for x in outputs.features.values()]).sum(dim=0)
    torch.testing.assert_close(outputs.logits, method.boosted.rate * summed)


def test_parts_begin_without_momentum(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    made._epoch(0)
    held = set(made.ctx.optimizer.state)
    assert set(made.ctx.model.encoders["audio"].parameters()) <= held
    made._epoch(1)
    made._epoch(2)
    held = set(made.ctx.optimizer.state)
    assert set(made.ctx.model.encoders["visual"].parameters()) <= held
    assert not held & set(made.ctx.model.encoders["audio"].parameters())


@pytest.mark.slow
def test_members_that_join_survive_a_checkpoint(trainer: Callable[..., Trainer]) -> None:
    whole = trainer(THREE, epochs=6)
    whole.train()
    for epochs in (2, 3, 5):
        made = trainer(THREE, epochs=6)
        for epoch in range(epochs):
            made._epoch(epoch)
        made.saver.flush()
        again = trainer(THREE, epochs=6)
        again.directory = made.directory
        again.resume()
        again.train()
        assert bits(again.assembly.extras.state_dict()) == bits(whole.assembly.extras.state_dict())
        assert bits(again.ctx.model.state_dict()) == bits(whole.ctx.model.state_dict())


def test_too_few_epochs_for_every_modality_are_warned_of(trainer: Callable[..., Trainer]) -> None:
    made = trainer(THREE, epochs=3)
    assert list(method_of(made).warnings(made.ctx)) == ["never picked: visual (3 epochs, 2 stages)"]
    made = trainer(THREE, epochs=5)
    assert list(method_of(made).warnings(made.ctx)) == []


def test_a_linear_head_is_one_layer(trainer: Callable[..., Trainer]) -> None:
    assert len(list(method_of(trainer(hidden=0)).boosted.head.parameters())) == 2
    assert len(list(method_of(trainer(hidden=8)).boosted.head.parameters())) == 4


def test_one_modality_is_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"reconboost.*takes .* modalities"):
        trainer(("audio",))
