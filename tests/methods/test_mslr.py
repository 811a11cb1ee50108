"""MSLR: the factor of a modality's learning rate, and what is trained at which rate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mslr import slow_rho, slow_sgd
from support.training import log, make_trainer
from torch import nn

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.mslr import MSLR, regroup, rho
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of mslr before its first step."""

    def make(epochs: int = 1, fusion: str = "concat", schedule: str = "constant", **settings: Any) -> Trainer:
        training = {
            "epochs": epochs,
            "batch_size": 30,
            "optimizer": {"name": "sgd", "lr": 0.1},
            "schedule": {"name": schedule},
        }
        recipe = toy_recipe(TWO, fusion=fusion, method="mslr", methods={"mslr": settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> MSLR:
    method = trainer.assembly.method
    assert isinstance(method, MSLR)
    return method


@pytest.mark.parametrize(
    ("history", "factor", "value"),
    [
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.6), 1.0, 1.2),
        ((0.4, 0.5, 0.5, 0.5, 0.6, 0.6), 1.0, 1.2),
        ((0.4, 0.5, 0.5, 0.5, 0.6, 0.6), 0.9, 1.08),
        ((0.5, 0.5, 0.5, 0.5, 0.6), 1.0, 1.0),  # four before it
        ((0.5, 0.5, 0.5, 0.5, 0.5, 0.1), 1.0, 0.5),  # the bound
        ((0.2, 0.2, 0.2, 0.2, 0.2, 0.9), 1.0, 2.0),
        ((), 1.0, 1.0),
        ((0.0, 0.0, 0.0, 0.0, 0.0, 0.3), 1.0, 1.0),
    ],
)
def test_factors_worked_by_hand(history: tuple[float, ...], factor: float, value: float) -> None:
    assert factor * rho(history, 2.0) == pytest.approx(value)


@pytest.mark.parametrize("bound", [None, 1.1, 2.0])
def test_agrees_with_a_slow_reference(bound: float | None) -> None:
    accuracies = torch.rand(20, generator=torch.Generator().manual_seed(0)).tolist()
    for epochs in range(len(accuracies) + 1):
        assert rho(accuracies[:epochs], bound) == pytest.approx(slow_rho(accuracies[:epochs], bound))


def test_a_group_is_trained_at_its_own_rate_with_momentum_and_weight_decay() -> None:
    weights = [nn.Parameter(torch.tensor([2.0])) for _ in range(3)]
    optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.01)
    regroup(optimizer, {"audio": [weights[0]], "visual": [weights[2]]})
    for group, rate in zip(optimizer.param_groups, (0.1, 0.03, 0.2), strict=True):
        group["lr"] = rate
    for gradient in (1.0, -0.5, 0.25):
        for weight in weights:
            weight.grad = torch.tensor([gradient])
        optimizer.step()
    expected = [slow_sgd(2.0, (1.0, -0.5, 0.25), rate, 0.9, 0.01) for rate in (0.03, 0.1, 0.2)]
    assert [weight.item() for weight in weights] == pytest.approx(expected)


def rates(trainer: Trainer, epoch: int = 0) -> dict[str, set[float]]:
    """The learning rates of the parameters of each encoder and of the fusion in an epoch, the schedule's being 0.1."""
    trainer.ctx.epoch = epoch
    method_of(trainer).on_epoch_start(trainer.ctx)
    of = {id(p): group["lr"] for group in trainer.ctx.optimizer.param_groups for p in group["params"]}
    return {name: {of[id(p)] for p in ps} for name, ps in trainer.ctx.model.parameter_groups().items()}


@pytest.mark.parametrize(("fusion", "fused"), [("concat", {0.1}), ("sum", {0.1 * 0.9, 0.1 * 1.1})])
def test_an_encoder_and_its_own_linear_layer_have_the_rate_of_the_modality(
    fusion: str, fused: set[float], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(fusion=fusion, strategy="keep", rates={"audio": 0.9, "visual": 1.1})
    assert rates(made) == {"audio": {0.1 * 0.9}, "visual": {0.1 * 1.1}, "fusion": fused}


def test_smooth_rates_end_at_the_common_one(trainer: Callable[..., Trainer]) -> None:
    made = trainer(epochs=4, strategy="smooth", rates={"audio": 0.5}, schedule="cosine")
    made.train()
    lines = log(made.directory.folder / "metrics.jsonl")
    assert [line["train"]["coefficient/audio"] for line in lines] == pytest.approx([0.5, 0.625, 0.75, 0.875])
    assert [line["train"]["coefficient/visual"] for line in lines] == pytest.approx([1.0] * 4)
    (audio,) = rates(made, epoch=2)["audio"]
    assert audio == pytest.approx(0.75 * made.ctx.optimizer.param_groups[0]["lr"])


def test_a_dynamic_rate_follows_the_validation_accuracy(trainer: Callable[..., Trainer]) -> None:
    made = trainer(epochs=2, rates={"audio": 0.9})
    method, ctx = method_of(made), made.ctx
    made.train()
    z = ctx.model.unimodal_logits(ctx.features("val")[0], "slice")
    for m in TWO:  # every sample has two draws in validation: the mean over rows is that over samples
        right = (z[m].argmax(dim=1) == ctx.val.split.labels).double().mean().item()
        assert method.history[m][-1] == pytest.approx(right)
        assert len(method.history[m]) == 2
    method.history = {"audio": [0.4, 0.5, 0.5, 0.5, 0.6, 0.6], "visual": [0.5] * 6}
    found = rates(made)
    assert list(found["audio"]) == pytest.approx([0.108])
    assert found["visual"] == found["fusion"] == {0.1}


def test_the_rates_act_on_the_weights(trainer: Callable[..., Trainer]) -> None:
    """Without momentum so far, a first step is as long as its rate."""
    steps = {}
    for rate in (1.0, 3.0):
        made = trainer(strategy="keep", rates={"audio": rate})
        before = [p.detach().clone() for p in made.ctx.model.encoders["audio"].parameters()]
        method_of(made).on_epoch_start(made.ctx)
        method_of(made).training_step(made.ctx, next(made.ctx.train.in_order(30)))
        after = made.ctx.model.encoders["audio"].parameters()
        steps[rate] = torch.cat([(new.detach() - old).flatten() for new, old in zip(after, before, strict=True)])
    torch.testing.assert_close(steps[3.0], 3 * steps[1.0], rtol=1e-3, atol=1e-6)


def test_only_the_accuracies_that_count_are_kept(trainer: Callable[..., Trainer]) -> None:
    made = trainer(epochs=8)
    made.train()
    assert {len(history) for history in method_of(made).history.values()} == {6}


def test_rates_of_modalities_that_the_recipe_has_not_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.mslr\.rates.*must name modalities of the recipe, audio, visual"):
        trainer(rates={"sound": 0.9})
