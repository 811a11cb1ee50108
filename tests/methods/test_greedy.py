"""Conditional learning speeds, who is curated for how long, and what the loss is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.greedy import Pairs, Seen, slow_curation
from support.training import bits, make_trainer, trained, weights
from torch import nn

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.greedy import Greedy, bypass_ratios, reliant, speed
from drcli.recipe.schema import Recipe

MODALITIES = ("audio", "visual")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of greedy before its first epoch."""

    def make(
        settings: dict[str, Any] | None = None,
        fusion: dict[str, Any] | str = "mmtm",
        order: tuple[str, ...] = MODALITIES,
        **training: Any,
    ) -> Trainer:
        block = {"epochs": 4, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.05}, **training}
        recipe = toy_recipe(order, method="greedy", methods={"greedy": settings or {}}, fusion=fusion, training=block)
        return make_trainer(recipe, tmp_path / "run")

    return make


def greedy_of(trainer: Trainer) -> Greedy:
    assert isinstance(trainer.assembly.method, Greedy)
    return trainer.assembly.method


def steps(trainer: Trainer, count: int) -> list[dict[str, float]]:
    """Take steps on the batches in stored order, over and over."""
    ctx = trainer.ctx
    ctx.model.train()
    batches = list(ctx.train.in_order(8))
    found = [trainer.assembly.method.training_step(ctx, batches[i % len(batches)]) for i in range(count)]
    return [{name: value.item() for name, value in scalars.items()} for scalars in found]


def curated(scalars: dict[str, float]) -> str | None:
    """The modality whose logged coefficient is 1."""
    who = {m: scalars[f"coefficient/{m}"] for m in MODALITIES}
    assert set(who.values()) <= {0.0, 1.0}
    return next((m for m, value in who.items() if value), None)


def test_speeds_and_decision_by_hand() -> None:
    """A' = (1e-2, 1e-3) and A = (1, 1): BDR = (-2, -3), d = 1."""
    totals = {"audio": torch.tensor([1.0, 1e-2]), "visual": torch.tensor([1.0, 1e-3])}
    ratios = bypass_ratios({m: total.double() for m, total in totals.items()})
    assert ratios == pytest.approx({"audio": -2.0, "visual": -3.0})
    assert reliant(ratios, 0.9) == "audio"
    assert reliant(ratios, 1.1) is None
    assert reliant({"audio": -3.0, "visual": -2.0}, 0.9) == "visual"
    assert reliant({"visual": -3.0, "audio": -2.0}, 0.9) == "audio"
    assert reliant({"audio": -2.0, "visual": -2.0}, 0.0) is None
    assert reliant({"audio": float("nan"), "visual": -2.0}, 0.0) is None


def test_speed_by_hand_leaves_out_what_no_gradient_reaches() -> None:
    """|g|^2 = 1 + 4 + 4, |theta|^2 = 9 + 16 + 2."""
    reached, also, unused = (nn.Parameter(torch.tensor(x)) for x in ([3.0, 4.0], [2.0**0.5], [100.0]))
    reached.grad, also.grad = torch.tensor([1.0, 2.0]), torch.tensor([-2.0])
    found = speed([reached, unused, also])
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(9 / 27, rel=1e-6)


@pytest.mark.parametrize(("epsilon", "window"), [(0.0, 1), (0.0, 3), (0.02, 2), (1.0, 5), (9.0, 5)])
def test_curation_follows_the_literal_account(
    epsilon: float, window: int, trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer({"epsilon": epsilon, "window": window})
    seen: list[Seen] = []
    method = greedy_of(run)
    real = method.modulate
    named = dict(run.assembly.model.named_parameters())

    def pairs(*parts: str) -> Pairs:
        chosen = [tensor for name, tensor in named.items() if any(part in name for part in parts)]
        return [
            (tensor.detach().numpy().copy(), tensor.grad.numpy().copy()) for tensor in chosen if tensor.grad is not None
        ]

    def modulate(*args: Any) -> None:
        main = {m: pairs(f"encoders.{m}.", f"fusion.heads.{m}.") for m in MODALITIES}
        seen.append(Seen(main, {m: pairs(".squeeze.", f".gates.{m}.") for m in MODALITIES}))
        real(*args)

    monkeypatch.setattr(method, "modulate", modulate)
    before = [curated(scalars) for scalars in steps(run, 4)]
    run.ctx.epoch = 1
    found = before + [curated(scalars) for scalars in steps(run, 26)]
    assert found == slow_curation(seen, epsilon=epsilon, window=window, locked=4)
    assert before == [None] * 4
    if epsilon == 0.0:
        assert found[4] is None
        assert found.count(None) == 4 + int(np.ceil(26 / (1 + window)))
    if epsilon == 9.0:
        assert set(found) == {None}


def test_curated_gates_rest_and_everything_else_learns(trainer: Callable[..., Trainer]) -> None:
    run = trainer({"epsilon": 0.0, "starts": 0, "window": 1})
    (first,) = steps(run, 1)
    assert curated(first) is None
    who = greedy_of(run).curated
    totals = bits(greedy_of(run).totals)
    before = weights(run)
    (second,) = steps(run, 1)
    assert who is not None
    assert curated(second) == who
    assert bits(greedy_of(run).totals) == totals
    named = dict(run.assembly.model.named_parameters())
    still = {name for name, tensor in named.items() if torch.equal(tensor, before[name])}
    assert still == {name for name in named if f".gates.{who}." in name}
    averages = [name for name in before if name.endswith(".average")]
    assert len(averages) == 6
    assert not any(torch.equal(weights(run)[name], before[name]) for name in averages)


def test_evaluation_within_a_window_is_not_curated(trainer: Callable[..., Trainer]) -> None:
    run = trainer({"epsilon": 0.0, "starts": 0})
    steps(run, 2)
    assert greedy_of(run).curated is not None
    batch = next(run.ctx.val.in_order(8))
    run.ctx.model.eval()
    predicted = greedy_of(run).predict(run.ctx.model, batch)
    assert torch.equal(predicted.logits, run.ctx.model(batch.inputs).logits)
    fusion: Any = run.ctx.model.fusion
    with fusion.curating(greedy_of(run).curated):
        assert not torch.equal(predicted.logits, run.ctx.model(batch.inputs).logits)


def test_the_loss_is_that_of_each_head_or_the_fused_one(trainer: Callable[..., Trainer]) -> None:
    run = trainer()
    ctx, batch = run.ctx, next(run.ctx.train.in_order(8))
    outputs = ctx.model(batch.inputs)
    losses = greedy_of(run).losses(ctx, outputs, batch)
    assert list(losses) == list(MODALITIES)
    fusion: Any = ctx.model.fusion
    for m, loss in losses.items():
        z = fusion.heads[m](outputs.features[m])
        torch.testing.assert_close(loss, nn.functional.cross_entropy(z, batch.labels))
    fused = Greedy(Greedy.Settings(loss="fused")).losses(ctx, outputs, batch)
    torch.testing.assert_close(fused, {"joint": nn.functional.cross_entropy(outputs.logits, batch.labels)})


def test_random_draws_each_choice_a_third_of_the_time(trainer: Callable[..., Trainer]) -> None:
    run = trainer({"variant": "random", "starts": 1})
    found = [curated(scalars) for scalars in steps(run, 4)]
    assert found == [None] * 4
    run.ctx.epoch = 1
    who = []
    for step in range(300):
        run.ctx.step = step
        greedy_of(run).modulate(run.ctx, None, None)  # type: ignore[arg-type]
        who.append(greedy_of(run).curated)
    for choice in (None, *MODALITIES):
        assert 70 < who.count(choice) < 130


def test_random_does_not_depend_on_the_order_of_the_modalities(trainer: Callable[..., Trainer]) -> None:
    """Nor on epsilon and window."""
    draws = []
    for order, settings in ((MODALITIES, {"window": 0, "epsilon": 9.0}), (MODALITIES[::-1], {})):
        run = trainer({"variant": "random", "starts": 0, **settings}, order=order)
        draws.append([curated(scalars) for scalars in steps(run, 12)])
    assert draws[0] == draws[1]
    assert set(draws[0]) == {None, *MODALITIES}


@pytest.mark.parametrize("variant", ["greedy", "random"])
def test_accumulated_gradients_have_one_curation_a_step(variant: str, trainer: Callable[..., Trainer]) -> None:
    run = trainer({"epsilon": 0.0, "starts": 0, "variant": variant}, accumulate=2)
    steps(run, 5)
    counts = {tensor.item() for name, tensor in weights(run).items() if name.endswith(".count")}
    assert counts == {10}
    assert run.ctx.step == 5


def test_one_head_of_all_needs_the_fused_loss(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    concat = {"name": "mmtm", "head": "concat"}
    with pytest.raises(RecipeError, match=r"methods\.greedy\.loss.*heads.*use fused, or fusion\.head=average"):
        toy_recipe(method="greedy", methods={"greedy": {}}, fusion=concat)
    block = {"greedy": {"loss": "fused", "starts": 0, "epsilon": 0.0}}
    training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    run = trained(toy_recipe(method="greedy", methods=block, fusion=concat, training=training), tmp_path)
    assert greedy_of(run).totals["audio"].gt(0).all()


def test_a_fusion_without_gates_is_refused(toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.greedy .* greedy needs a fusion with gates: fusion=mmtm") as error:
        toy_recipe(method="greedy", methods={"greedy": {}})
    assert "methods.greedy.loss" not in str(error.value)


def test_a_curation_that_never_starts_is_said(trainer: Callable[..., Trainer]) -> None:
    run = trainer({"starts": 4})
    assert list(greedy_of(run).warnings(run.ctx)) == ["no modality will be curated (starts: 4, 4 epochs)"]
    assert not list(greedy_of(trainer({"starts": 3})).warnings(run.ctx))
