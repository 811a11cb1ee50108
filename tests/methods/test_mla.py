"""MLA: its projection, its turns, its weights of the prediction."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mla import slow_prediction, slow_projection
from support.training import bits, make_trainer, trained, weights
from torch import Tensor

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.mla import MLA, project_off
from drcli.methods.parts.weighted import entropy_weights, softmax_over
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe

pytestmark = pytest.mark.convolutions

TWO = ("audio", "visual")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of MLA before its first step."""

    def make(modalities: tuple[str, ...] = TWO, **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, method="mla", methods={"mla": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> MLA:
    method = trainer.assembly.method
    assert isinstance(method, MLA)
    return method


def first(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def test_a_projection_worked_by_hand() -> None:
    """r = (1, 2), lambda 0.1, P = I: k = (1, 2), lambda + r . k = 5.1."""
    found = project_off(torch.eye(2), torch.tensor([1.0, 2.0]), 0.1, normalise=False)
    torch.testing.assert_close(found, torch.tensor([[0.803922, -0.392157], [-0.392157, 0.215686]]), rtol=0, atol=1e-6)
    assert found.norm().item() == pytest.approx(1.000192, abs=1e-6)
    normalised = project_off(torch.eye(2), torch.tensor([1.0, 2.0]), 0.1, normalise=True)
    gradients = torch.tensor([[1.0, 2.0], [2.0, -1.0]]) @ normalised.T
    expected = torch.tensor([[0.019604, 0.039208], [1.999616, -0.999808]])
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-6)


def test_a_projection_along_one_axis() -> None:
    """r = e1: 0.1 / 1.1 = 0.090909 of it is left, all of the others; over the norm, 0.090536 and 0.995893."""
    mean = torch.tensor([1.0, 0.0])
    torch.testing.assert_close(
        project_off(torch.eye(2), mean, 0.1, normalise=False), torch.diag(torch.tensor([0.1 / 1.1, 1.0]))
    )
    torch.testing.assert_close(
        project_off(torch.eye(2), mean, 0.1, normalise=True),
        torch.diag(torch.tensor([0.090536, 0.995893])),
        rtol=0,
        atol=1e-6,
    )


def test_the_first_normalisation_divides_by_about_the_square_root_of_the_width() -> None:
    """|I| is sqrt(512) = 22.6: what is orthogonal to r is left with 1 / 22.6 of its gradient."""
    width = 512
    found = project_off(torch.eye(width), torch.eye(width)[0], 0.1, normalise=True)
    assert 1 / found[1, 1].item() == pytest.approx(22.6, abs=0.05)


def test_entropies_of_a_half_and_one_weigh_so() -> None:
    weighed = softmax_over({"a": -torch.tensor([0.5]), "v": -torch.tensor([1.0])})
    assert [w.item() for w in weighed.values()] == pytest.approx([0.622459, 0.377541], abs=1e-6)


@pytest.mark.parametrize("normalise", [True, False])
def test_projections_agree_with_a_slow_reference(normalise: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    fast, slow = torch.eye(4, dtype=torch.float64), torch.eye(4).tolist()
    for lambda_ in (0.1, 0.05, 0.01):
        mean = torch.rand(4, generator=generator, dtype=torch.float64)
        fast = project_off(fast, mean, lambda_, normalise=normalise)
        slow = slow_projection(slow, mean.tolist(), lambda_, normalise=normalise)
    torch.testing.assert_close(fast, torch.tensor(slow, dtype=torch.float64))


def test_predictions_agree_with_a_slow_reference(trainer: Callable[..., Trainer]) -> None:
    made = trainer(("audio", "visual", "text"))
    batch = first(made)
    method = method_of(made)
    with torch.no_grad():
        for parameter in method.head.parameters():
            parameter.mul_(5)
        outputs = method.predict(made.assembly.model, batch)
        logits = method.all_logits(outputs.features)
    for i in range(3):
        expected = slow_prediction({m: z[i].tolist() for m, z in logits.items()})
        assert outputs.logits[i].tolist() == pytest.approx(expected, rel=1e-4)
    summed = torch.stack(list(entropy_weights(logits).values())).sum(dim=0)
    torch.testing.assert_close(summed, torch.ones(16))


def test_fixed_weights_predict(trainer: Callable[..., Trainer]) -> None:
    made = trainer(prediction="fixed", weights={"audio": 0.25, "visual": 0.75})
    batch, method = first(made), method_of(made)
    outputs = method.predict(made.assembly.model, batch)
    logits = method.all_logits(outputs.features)
    torch.testing.assert_close(outputs.logits, 0.25 * logits["audio"] + 0.75 * logits["visual"])
    plain = method_of(trainer(prediction="fixed"))
    outputs = plain.predict(made.assembly.model, batch)
    mean = torch.stack(list(plain.all_logits(outputs.features).values())).mean(dim=0)
    torch.testing.assert_close(outputs.logits, mean)


def snapshot(trainer: Trainer) -> dict[str, Any]:
    """The bits of everything that a turn could change: parameters and statistics of batch normalisation."""
    return {m: bits(encoder.state_dict()) for m, encoder in trainer.assembly.model.encoders.items()}


def test_a_turn_leaves_the_other_encoder_as_it_is(trainer: Callable[..., Trainer], monkeypatch: Any) -> None:
    made = trainer()
    seen = [snapshot(made)]
    real = made.ctx.apply_gradients

    def apply() -> None:
        real()
        seen.append(snapshot(made))

    monkeypatch.setattr(made.ctx, "apply_gradients", apply)
    for batch in made.ctx.train.in_order(20):
        made.assembly.method.training_step(made.ctx, batch)
    assert len(seen) == 7  # three batches of two turns
    changed = [[m for m in TWO if before[m] != after[m]] for before, after in pairwise(seen)]
    assert changed == [["audio"], ["visual"]] * 3


def test_the_first_step_is_not_projected_and_the_second_is(trainer: Callable[..., Trainer]) -> None:
    made = trainer(normalise=False)
    method = method_of(made)
    batch = first(made)
    eye = torch.eye(method.head.in_features)
    kept: list[Tensor] = []
    for method.turn in TWO:
        outputs = method.forward(made.ctx, batch)
        made.ctx.optimizer.zero_grad()
        method.backward(made.ctx, method.losses(made.ctx, outputs, batch))
        method.modulate(made.ctx, outputs, batch)
        kept.append(method.projection.clone())
        made.ctx.step += 1
    assert torch.equal(kept[0], eye)
    mean = outputs.features["visual"].mean(dim=0).detach()
    torch.testing.assert_close(kept[1], project_off(eye, mean, 0.1, normalise=False))


def test_lambda_falls_within_an_epoch(trainer: Callable[..., Trainer]) -> None:
    """60 rows in batches of 16 are four; in the third, lambda = 0.1^(1 + 2 / 4)."""
    made = trainer(normalise=False)
    method = method_of(made)
    batch = first(made)
    made.ctx.step, method.turn = 4 * 2 + 2 * 2, "audio"
    outputs = method.forward(made.ctx, batch)
    method.backward(made.ctx, method.losses(made.ctx, outputs, batch))
    method.modulate(made.ctx, outputs, batch)
    mean = outputs.features["audio"].mean(dim=0).detach()
    torch.testing.assert_close(method.projection, project_off(torch.eye(len(mean)), mean, 0.1**1.5, normalise=False))


def test_without_projection_it_trains_otherwise(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    runs = [
        trained(toy_recipe(TWO, method="mla", methods={"mla": {"projection": on}}), tmp_path / str(on))
        for on in (True, False)
    ]
    assert bits(weights(runs[0])) != bits(weights(runs[1]))


def test_unequal_widths_are_refused(toy_dict: Callable[..., dict[str, Any]]) -> None:
    plain = toy_dict(TWO, method="mla", methods={"mla": {}})
    wide = {**plain["modalities"], "visual": {"backbone": "resnet_small", "width": 8}}
    with pytest.raises(RecipeError, match=r"modalities\.visual\.backbone.*gives 32 features and that of audio 16: mla"):
        recipe_from_dict({**plain, "modalities": wide}, where="the test's recipe")


def test_weights_that_do_not_fit_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.mla\.weights.*is for prediction fixed, not entropy"):
        trainer(weights={"audio": 1.0})
    with pytest.raises(RecipeError, match=r"knows audio, visual; not text"):
        trainer(prediction="fixed", weights={"text": 1.0})
    with pytest.raises(RecipeError, match=r"must give a weight above 0"):
        trainer(prediction="fixed", weights={"audio": 0.0})
