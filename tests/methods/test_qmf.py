"""QMF: the weights, the ranking, and the losses so far that it ranks by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.multi_loss import slow_cross_entropy
from reference.qmf import slow_fused, slow_ranking, slow_weights
from support.training import make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.qmf import QMF, energies, ranking_loss, scaled
from drcli.recipe.schema import Recipe

ONE = ("audio",)
TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of qmf before its first step."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", epochs: int = 1, **settings: Any) -> Trainer:
        training = {"epochs": epochs, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_recipe(modalities, fusion=fusion, method="qmf", methods={"qmf": settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> QMF:
    method = trainer.assembly.method
    assert isinstance(method, QMF)
    return method


def a_batch(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def test_weights_worked_by_hand() -> None:
    w = energies({"a": torch.tensor([[2.0, 0.0]]), "v": torch.zeros(1, 2)})
    assert (w["a"].item(), w["v"].item()) == pytest.approx((0.212693, 0.069315), abs=1e-6)


def test_the_ranking_worked_by_hand() -> None:
    """The harder sample has more weight by 0.3 and is harder by 0.4, seen from either: 0.7; the code has 0."""
    weights, hardness = torch.tensor([0.5, 0.2]), torch.tensor([0.9, 0.5])
    assert ranking_loss(weights, hardness).item() == pytest.approx(0.7)
    assert ranking_loss(weights, hardness, "released").item() == 0
    assert ranking_loss(weights, torch.tensor([0.5, 0.9])).item() == pytest.approx(0.1)
    assert ranking_loss(weights, torch.tensor([0.5, 0.5])).item() == 0
    assert ranking_loss(torch.tensor([0.9, 0.2]), hardness, "released").item() == pytest.approx(0.3)


def test_the_ranking_agrees_with_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        weights, hardness = torch.rand(2, 9, generator=generator)
        expected = slow_ranking(weights.tolist(), hardness.tolist())
        assert ranking_loss(weights, hardness).item() == pytest.approx(expected, rel=1e-5)


def test_losses_so_far_are_scaled_to_one_and_equal_ones_are_0() -> None:
    assert scaled(torch.tensor([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]
    assert scaled(torch.full((3,), 7.0)).tolist() == [0.0] * 3


@pytest.mark.parametrize("modalities", [ONE, TWO, THREE], ids=len)
def test_losses_and_prediction_agree_with_a_slow_reference(
    modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, **{"lambda": 0.7})
    method, batch = method_of(made), a_batch(made)
    made.ctx.model.eval()
    generator = torch.Generator().manual_seed(1)
    for totals in method.totals.values():
        totals.copy_(torch.rand(len(totals), generator=generator))
    hardness = {m: scaled(totals)[batch.index].tolist() for m, totals in method.totals.items()}
    outputs = method.forward(made.ctx, batch)
    z = {m: x.tolist() for m, x in made.ctx.model.unimodal_logits(outputs.features, "slice").items()}
    labels = batch.labels.tolist()
    weights = {m: slow_weights(rows) for m, rows in z.items()}
    fused = slow_fused(z, weights)
    torch.testing.assert_close(outputs.logits, torch.tensor(fused))
    torch.testing.assert_close(method.predict(made.ctx.model, batch).logits, outputs.logits)
    losses = {name: loss.item() for name, loss in method.losses(made.ctx, outputs, batch).items()}
    expected = {"joint": slow_cross_entropy(fused, labels)}
    for m in modalities:
        expected[m] = slow_cross_entropy(z[m], labels)
        expected[f"rank_{m}"] = 0.7 * slow_ranking(weights[m], hardness[m])
    assert losses == pytest.approx(expected, rel=1e-4)


def test_each_rows_loss_is_added_up_over_the_epochs(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method, batch = method_of(made), a_batch(made)
    for _ in range(2):
        outputs = method.forward(made.ctx, batch)
        method.losses(made.ctx, outputs, batch)
    z = made.ctx.model.unimodal_logits(outputs.features, "slice")["audio"]
    first = slow_cross_entropy([z[0].tolist()], [int(batch.labels[0])])
    totals = method.totals["audio"]
    assert totals[batch.index[0]].item() == pytest.approx(2 * first, rel=1e-5)
    rest = torch.ones(len(totals), dtype=torch.bool)
    rest[batch.index] = False
    assert not totals[rest].any()


def test_the_gradient_goes_through_the_weights(trainer: Callable[..., Trainer]) -> None:
    made = trainer(**{"lambda": 1.0})
    method, batch = method_of(made), a_batch(made)
    method.totals["audio"][batch.index[::2]] = 1.0
    method.losses(made.ctx, method.forward(made.ctx, batch), batch)["rank_audio"].backward()
    reached = {g for g, ps in made.ctx.model.parameter_groups().items() if any(p.grad is not None for p in ps)}
    assert reached == {"audio", "fusion"}


def test_fusions_without_logits_of_single_modalities_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name.*no logits of single modalities.*use concat or sum"):
        trainer(fusion="film")
    with pytest.raises(
        RecipeError, match=r"methods\.qmf\.unimodal_logits = slice +must be head with fusion centralnet"
    ):
        trainer(fusion="centralnet")
