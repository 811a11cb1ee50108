"""Gradient blending: the weights, how they are estimated, when, and that estimating leaves no trace."""

from __future__ import annotations

import copy
import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from reference.g_blending import slow_growth, slow_weights
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained, weights
from torch import Tensor, nn
from torch.nn import functional

from drcli.data.batches import Batches
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError, RunError
from drcli.methods import g_blending
from drcli.methods.g_blending import GBlending, Growth, blending_weights, estimate
from drcli.models.fusion import Concat
from drcli.optim import learning_rate
from drcli.recipe.schema import Recipe
from drcli.seeding import derive, generator

pytestmark = pytest.mark.convolutions

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")
SGD = {"epochs": 4, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
FIXED = {"audio": 0.2, "visual": 0.5, "joint": 0.3}


@pytest.fixture
def recipe(toy_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Makes a recipe of g_blending; keyword arguments are its settings."""

    def make(modalities: tuple[str, ...] = TWO, training: dict[str, Any] | None = None, **settings: Any) -> Recipe:
        blocks = {"method": "g_blending", "methods": {"g_blending": settings}}
        return toy_recipe(modalities, training={**SGD, **(training or {})}, **blocks)

    return make


def method_of(trainer: Trainer) -> GBlending:
    method = trainer.assembly.method
    assert isinstance(method, GBlending)
    return method


def at_epoch(trainer: Trainer, epoch: int) -> Trainer:
    trainer.ctx.epoch = epoch
    trainer.ctx.model.train()
    return trainer


def growths(gains: dict[str, float], overfitting: dict[str, float]) -> dict[str, Growth]:
    return {k: Growth(gains[k], overfitting[k]) for k in gains}


# The weights


def test_numbers_worked_by_hand() -> None:
    """dG = (0.2, 0.5, 0.6), dO = (0.1, 0.5, 0.4): raw (20, 2, 3.75), which add up to 25.75."""
    found = blending_weights(growths({"a": 0.2, "b": 0.5, "joint": 0.6}, {"a": 0.1, "b": 0.5, "joint": 0.4}), 1e-4)
    assert found == pytest.approx({"a": 0.776699, "b": 0.077670, "joint": 0.145631}, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_weights_agree_with_a_slow_reference(seed: int) -> None:
    draw = random.Random(seed).uniform
    gains = {k: draw(0.01, 2) for k in ("a", "b", "c", "joint")}
    overfitting = {k: draw(0.01, 2) * (-1) ** i for i, k in enumerate(gains)}
    found = blending_weights(growths(gains, overfitting), 1e-4)
    assert found == pytest.approx(slow_weights(gains, overfitting), rel=1e-12)
    assert sum(found.values()) == pytest.approx(1)
    tripled = growths({k: 3 * v for k, v in gains.items()}, {k: 3 * v for k, v in overfitting.items()})
    assert blending_weights(tripled, 1e-4) == pytest.approx(found)
    for order in itertools.permutations(gains):
        assert blending_weights(growths({k: gains[k] for k in order}, overfitting), 1e-4) == found


def test_a_head_that_gets_worse_gets_nothing() -> None:
    found = blending_weights(growths({"a": -0.5, "b": 0.1, "joint": 0.1}, {"a": 0.1, "b": 1.0, "joint": 1.0}), 1e-4)
    assert found == pytest.approx({"a": 0, "b": 0.5, "joint": 0.5})


def test_weights_are_equal_where_every_head_gets_worse() -> None:
    found = blending_weights(growths({"a": -0.5, "b": 0.0, "joint": -1.0}, {"a": 0.1, "b": 0.0, "joint": 1.0}), 1e-4)
    assert found == pytest.approx({"a": 1 / 3, "b": 1 / 3, "joint": 1 / 3})


def test_overfitting_below_the_floor_counts_as_the_floor() -> None:
    found = blending_weights(growths({"a": 1.0, "joint": 1.0}, {"a": 0.0, "joint": -0.2}), 0.1)
    assert found == pytest.approx({"a": 0.8, "joint": 0.2})


# The estimation


def batches_of(batches: Any) -> list[tuple[dict[str, Tensor], Tensor]]:
    return [(batch.inputs, batch.labels) for batch in batches]


@pytest.mark.parametrize("k", [pytest.param(k, marks=pytest.mark.slow) for k in ("audio", "visual")] + ["joint"])
def test_growths_agree_with_a_slow_reference(k: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """From the middle of a run on, with momentum, weight decay and a falling learning rate.

    Every sample of val has two rows, so a mean over rows is one over samples.
    """
    training = {"schedule": {"name": "cosine"}, "optimizer": {"name": "sgd", "lr": 0.02, "weight_decay": 0.01}}
    trainer = make_trainer(recipe(training=training, super_epoch=4), tmp_path)
    trainer._epoch(0)
    ctx = at_epoch(trainer, 1).ctx
    heads = method_of(trainer).heads
    found = estimate(ctx, heads, 2)[k]

    epochs = []
    for epoch in (1, 2):
        seed = derive(ctx.seed, "method", "estimate", k, 1)
        order, augment = (generator(seed, "method", name, epoch) for name in ("order", "augment"))
        rate = learning_rate(ctx.training.schedule, 0.02, epoch, 4)
        epochs.append((rate, batches_of(ctx.train.shuffled(16, order, augment))))
    model, head = copy.deepcopy(ctx.model), copy.deepcopy(heads)
    modules = [model] if k == "joint" else [model.encoders[k], head[k]]

    def logits(inputs: dict[str, Tensor]) -> Tensor:
        if k != "joint":
            return cast("Tensor", head[k](model.encoders[k](inputs[k])))
        features = torch.cat([model.encoders[m](inputs[m]) for m in TWO], dim=1)
        return cast("Tensor", cast("Concat", model.fusion).linear(features))

    gain, overfitting = slow_growth(
        modules,
        logits,
        train=batches_of(ctx.train.in_order(16)),
        val=batches_of(ctx.val.in_order(16)),
        epochs=epochs,
        momentum=0.9,
        decay=0.01,
    )
    assert abs(overfitting) > 1e-3
    assert (found.gain, found.overfitting) == pytest.approx((gain, overfitting), rel=1e-3, abs=1e-4)


class Noisy(nn.Module):
    """Dropout, which draws from the global generator."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.takes_lengths = False

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.inner(x), 0.5, self.training)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", pytest.param("adamw", marks=pytest.mark.slow)])
def test_estimating_leaves_no_trace(optimizer: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Weights, buffers, gradients, optimiser, modes, cached features, step, generators: bit for bit."""
    training = {"optimizer": {"name": optimizer, "lr": 0.02}}
    trainer = make_trainer(recipe(THREE, training=training, super_epoch=4), tmp_path)
    trainer._epoch(0)
    ctx, model = at_epoch(trainer, 1).ctx, trainer.assembly.model
    model.encoders["audio"] = Noisy(model.encoders["audio"])
    model.encoders["visual"].eval()

    def everything() -> Any:
        return bits(
            {
                "model": model.state_dict(),
                "extras": trainer.assembly.extras.state_dict(),
                "gradients": [p.grad for p in ctx.trainable if p.grad is not None],
                "optimizer": ctx.optimizer.state_dict(),
                "modes": [layer.training for layer in model.modules()],
                "features": ctx.features("train"),
                "step": ctx.step,
                "epoch": ctx.epoch,
                "global": torch.get_rng_state(),
                "own": ctx.generator("own").get_state(),
                "logged": ctx._logged,
            }
        )

    before, identity = everything(), id(ctx.features("train"))
    first = estimate(ctx, method_of(trainer).heads, 2)
    assert everything() == before
    assert id(ctx.features("train")) == identity
    torch.rand(3)  # what the process has drawn so far is of no account
    assert estimate(ctx, method_of(trainer).heads, 2) == first
    assert len({growth.gain for growth in first.values()}) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
def test_estimating_leaves_the_device_generator_as_it_was(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(recipe(), tmp_path, device=torch.device("cuda"))
    before = bits(torch.cuda.get_rng_state())
    estimate(at_epoch(trainer, 0).ctx, method_of(trainer).heads, 1)
    assert bits(torch.cuda.get_rng_state()) == before


@pytest.mark.slow
def test_estimating_does_not_shift_the_data_order(
    recipe: Callable[..., Recipe], toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[list[int]] = []
    real = Batches.shuffled

    def shuffled(self: Batches, *args: Any) -> Any:
        epoch: list[int] = []
        orders.append(epoch)
        for batch in real(self, *args):
            epoch += batch.index.tolist()
            yield batch

    monkeypatch.setattr(Batches, "shuffled", shuffled)
    trained(toy_recipe(method="joint", training={**SGD, "epochs": 2}), tmp_path / "joint")
    joint, orders = orders, []
    trained(recipe(super_epoch=1, training={"epochs": 2}), tmp_path / "ours")
    assert [orders[3], orders[7]] == joint  # three heads are tried before each epoch
    assert len({tuple(order) for order in orders}) == 8


def test_a_diverging_head_stops_the_run(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(recipe(training={"optimizer": {"name": "sgd", "lr": 1e6, "weight_decay": 1e6}}), tmp_path)
    with pytest.raises(RunError, match=r"epoch 0: the loss of head audio alone is not finite after 4 epochs.*Lower"):
        estimate(at_epoch(trainer, 0).ctx, method_of(trainer).heads, 4)


# When


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"super_epoch": 2}, [2, 0, 2, 0, 1]),
        ({"super_epoch": 10}, [5, 0, 0, 0, 0]),
        ({"super_epoch": 1}, [1, 1, 1, 1, 1]),
        ({"mode": "offline"}, [5, 0, 0, 0, 0]),
        ({"mode": "offline", "estimate_epochs": 3}, [3, 0, 0, 0, 0]),
        ({"mode": "fixed", "weights": FIXED}, [0, 0, 0, 0, 0]),
    ],
    ids=str,
)
def test_schedule(settings: dict[str, Any], expected: list[int]) -> None:
    method = GBlending(GBlending.Settings(**settings))
    assert [method.horizon(epoch, 5) for epoch in range(5)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [TWO, pytest.param(THREE, marks=pytest.mark.slow)], ids=len)
def test_every_super_epoch_trains_with_the_weights_of_its_estimation(
    modalities: tuple[str, ...], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = trained(recipe(modalities, super_epoch=2, training={"optimizer": {"name": "sgd", "lr": 0.01}}), tmp_path)
    lines = [line["train"] for line in log(trainer.directory.folder / "metrics.jsonl")]
    coefficients = [{k: line[f"coefficient/{k}"] for k in (*modalities, "joint")} for line in lines]
    assert coefficients[0] == coefficients[1] != coefficients[2] == coefficients[3]
    assert all(sum(found.values()) == pytest.approx(1) for found in coefficients)
    state = trainer.assembly.method.state_dict()
    assert coefficients[3] == pytest.approx(state["weights"])
    again = blending_weights({k: Growth(*growth) for k, growth in state["growths"].items()}, 1e-4)
    assert again == state["weights"]


def test_a_resumed_super_epoch_keeps_its_weights(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(mode="offline", estimate_epochs=1)
    whole = trained(made, tmp_path / "whole")
    with pytest.raises(StoppedError):
        make_trainer(made, tmp_path / "stopped", listener=StopAfter(2)).train()
    second = make_trainer(made, tmp_path / "stopped")
    second.resume()
    monkeypatch.setattr(g_blending, "estimate", None)
    second.train()
    assert bits(weights(second)) == bits(weights(whole))
    assert second.assembly.method.state_dict() == whole.assembly.method.state_dict()


# The blended loss


def test_losses_are_the_weighted_cross_entropies(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(recipe(mode="fixed", weights=FIXED), tmp_path)
    method, batch = method_of(trainer), next(trainer.ctx.train.in_order(16))
    outputs = method.forward(trainer.ctx, batch)
    losses = method.losses(trainer.ctx, outputs, batch)
    logits = {m: method.heads[m](outputs.features[m]) for m in TWO} | {"joint": outputs.logits}
    for k, weight in FIXED.items():
        picked = logits[k].log_softmax(dim=1)[torch.arange(16), batch.labels]
        torch.testing.assert_close(losses[k], -weight * picked.mean())
    assert torch.equal(method.predict(trainer.assembly.model, batch).logits, outputs.logits)
    logged = {name: value.item() for name, value in trainer.ctx.take_logged().items()}
    assert logged == pytest.approx({f"coefficient/{k}": weight for k, weight in FIXED.items()})


def test_a_weight_of_zero_leaves_its_head_out(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(recipe(THREE, mode="fixed", weights={"audio": 1.0}), tmp_path)
    method, batch = method_of(trainer), next(trainer.ctx.train.in_order(16))
    losses = method.losses(trainer.ctx, method.forward(trainer.ctx, batch), batch)
    assert list(losses) == ["audio"]
    method.backward(trainer.ctx, losses)
    groups = trainer.assembly.model.parameter_groups() | {
        f"head {m}": [*h.parameters()] for m, h in method.heads.items()
    }
    reached = {name for name, parameters in groups.items() if any(p.grad is not None for p in parameters)}
    assert reached == {"audio", "head audio"}


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "fixed"}, r"weights.*must give mode fixed a weight above 0 to one at least of audio, visual, joint"),
        ({"mode": "fixed", "weights": {"joint": 0.0}}, r"weights.*must give mode fixed a weight above 0"),
        ({"mode": "fixed", "weights": {"text": 1.0}}, r"weights.*knows audio, visual, joint; not text"),
        ({"mode": "fixed", "weights": {"joint": -1.0}}, r"weights\.joint = -1\.0 +must be"),
        ({"mode": "fixed", "weights": {"joint": float("inf")}}, r"weights\.joint = \.?inf +must be"),
        ({"weights": FIXED}, r"weights.*is for mode fixed, not online; leave it out"),
        ({"estimate_epochs": 2}, r"estimate_epochs = 2 +is for mode offline, not online; leave it out"),
        ({"mode": "offline", "estimate_epochs": 5}, r"estimate_epochs = 5 +must not be more than training\.epochs, 4"),
        ({"super_epoch": 0}, r"super_epoch = 0 +must be"),
        ({"floor": 0.0}, r"floor = 0\.0 +must be"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(
    settings: dict[str, Any], message: str, recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError, match=r"methods\.g_blending\." + message):
        recipe(**settings)


def test_fusions_that_exchange_between_encoders_are_refused(toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.g_blending = .*trains every encoder alone, too: fusion=concat or"):
        toy_recipe(fusion="mmtm", method="g_blending", methods={"g_blending": {}})


def test_a_fusion_that_only_reads_the_encoders_is_blended(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    blocks = {"method": "g_blending", "methods": {"g_blending": {}}, "training": {**SGD, "epochs": 1}}
    trainer = trained(toy_recipe(fusion="centralnet", **blocks), tmp_path)
    assert set(trainer.assembly.method.state_dict()["growths"]) == {*TWO, "joint"}
