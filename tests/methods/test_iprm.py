"""IPRM: the mixture, what it leans to, and what is kept between batches."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reference.iprm import slow_divergence, slow_linear, slow_slerp
from reference.multi_loss import slow_cross_entropy
from support.training import make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.iprm import IPRM, divergence, opposite_shares, slerp
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of iprm before its first step."""

    def make(**blocks: Any) -> Trainer:
        training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_recipe(**{"method": "iprm", "methods": {"iprm": {}}, "training": training, **blocks})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> IPRM:
    method = trainer.assembly.method
    assert isinstance(method, IPRM)
    return method


def a_batch(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def pair(first: float, second: float) -> dict[str, torch.Tensor]:
    return {"a": torch.tensor(first), "v": torch.tensor(second)}


def test_shares_worked_by_hand() -> None:
    found = opposite_shares(pair(0.2, 0.6))
    assert (found["a"].item(), found["v"].item()) == pytest.approx((0.75, 0.25))
    assert [share.item() for share in opposite_shares(pair(0.0, 0.0)).values()] == [0.5, 0.5]


def test_the_mixture_of_orthogonal_features_worked_by_hand() -> None:
    features = {"a": torch.tensor([[2.0, 0.0]]), "v": torch.tensor([[0.0, 7.0]])}
    assert slerp(features, pair(0.75, 0.25))[0].tolist() == pytest.approx([0.923880, 0.382683], abs=1e-6)


def test_the_next_lambda_worked_by_hand(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method = method_of(made)
    method.probed = {"audio": torch.tensor(0.75), "visual": torch.tensor(0.25)}
    method.forward(made.ctx, a_batch(made))
    assert {m: value.item() for m, value in method.kept().items()} == pytest.approx({"audio": 0.55, "visual": 0.45})


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_parallel_features_have_a_mixture_and_finite_gradients(scale: float) -> None:
    first = torch.tensor([[0.6, 0.8]], requires_grad=True)
    mixed = slerp({"a": first, "v": scale * first.detach()}, pair(0.3, 0.7))
    mixed.sum().backward()
    assert first.grad is not None
    assert bool(first.grad.isfinite().all())
    if scale > 0:
        torch.testing.assert_close(mixed.detach(), first.detach(), rtol=1e-3, atol=1e-3)


def test_the_mixture_and_the_divergence_agree_with_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 6, 5, generator=generator)
    for part in (0.0, 0.3, 1.0):
        found = slerp({"a": first, "v": second}, pair(part, 1 - part))
        expected = [slow_slerp(a, b, part) for a, b in zip(first.tolist(), second.tolist(), strict=True)]
        torch.testing.assert_close(found, torch.tensor(expected))
    expected_kl = slow_divergence(first.tolist(), second.tolist())
    assert divergence(first, second).item() == pytest.approx(expected_kl, rel=1e-5)


def test_a_step_agrees_with_a_slow_reference(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method, batch, model = method_of(made), a_batch(made), made.ctx.model
    method.probed = {"audio": torch.tensor(0.75), "visual": torch.tensor(0.25)}
    outputs = method.forward(made.ctx, batch)
    audio, visual = (outputs.features[m].tolist() for m in TWO)
    z = {m: x.tolist() for m, x in model.unimodal_logits(outputs.features, "slice").items()}
    head = method.mixed.weight.tolist(), method.mixed.bias.tolist()

    def mixed(part: float) -> list[list[float]]:
        return [slow_linear(slow_slerp(a, v, part), *head) for a, v in zip(audio, visual, strict=True)]

    k = {m: slow_divergence(z[m], mixed(0.55)) for m in TWO}
    part = k["visual"] / (k["audio"] + k["visual"])
    assert method.probed["audio"].item() == pytest.approx(part, rel=1e-4)
    labels = batch.labels.tolist()
    losses = {name: loss.item() for name, loss in method.losses(made.ctx, outputs, batch).items()}
    expected = {"mixed": mixed(part), **z}
    assert losses == pytest.approx({name: slow_cross_entropy(x, labels) for name, x in expected.items()}, rel=1e-4)
    total = torch.tensor(z["audio"]) + torch.tensor(z["visual"]) + torch.tensor(mixed(part))
    torch.testing.assert_close(outputs.logits, total, rtol=1e-4, atol=1e-5)


def test_it_predicts_with_the_lambda_of_the_last_batch(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method, batch, model = method_of(made), a_batch(made), made.ctx.model
    method.kept.follow(pair_of(0.9), 0.0)
    method.probed = pair_of(0.1)
    predicted = method.predict(model, batch)
    mixed = method.mixed(slerp(predicted.features, pair_of(0.9)))
    torch.testing.assert_close(predicted.logits, model.fusion(predicted.features) + mixed)


def pair_of(audio: float) -> dict[str, torch.Tensor]:
    return dict(zip(TWO, pair(audio, 1 - audio).values(), strict=True))


def test_the_probe_leaves_no_gradient(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method, batch = method_of(made), a_batch(made)
    method.forward(made.ctx, batch)
    assert not any(value.requires_grad for value in (*method.kept().values(), *method.probed.values()))


def test_encoders_of_unequal_widths_are_refused(toy_dict: Callable[..., dict[str, Any]]) -> None:
    modalities = {m: {"backbone": "resnet_small", "width": width} for m, width in zip(TWO, (4, 8), strict=True)}
    with pytest.raises(RecipeError, match=r"methods\.iprm.*equally many; they have audio 16, visual 32: set their"):
        recipe_from_dict({**toy_dict(method="iprm", methods={"iprm": {}}), "modalities": modalities}, where="a test")


def test_encoders_whose_widths_no_sketch_shows_are_refused_when_they_are_built() -> None:
    model: Any = SimpleNamespace(fusion=SimpleNamespace(widths={"audio": 16, "visual": 32}, num_classes=3))
    with pytest.raises(RecipeError, match=r"methods\.iprm: mixes features.*audio 16, visual 32"):
        IPRM(IPRM.Settings()).build(model)
