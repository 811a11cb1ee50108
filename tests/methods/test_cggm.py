"""CGGM: the factors, the directions, and what the classifiers must not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.cggm import slow_cosine, slow_direction, slow_modulation
from support.training import make_trainer

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.methods.cggm import CGGM, cosine, direction_loss, modulation
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of cggm before its first step."""

    def make(modalities: tuple[str, ...] = TWO, epochs: int = 1, **settings: Any) -> Trainer:
        training = {"epochs": epochs, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        recipe = toy_recipe(modalities, method="cggm", methods={"cggm": settings}, training=training)
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> CGGM:
    method = trainer.assembly.method
    assert isinstance(method, CGGM)
    return method


def a_batch(trainer: Trainer) -> Batch:
    return next(trainer.ctx.train.in_order(16))


def tensors(*values: float) -> dict[str, torch.Tensor]:
    return {m: torch.tensor(value, dtype=torch.float64) for m, value in zip("avt", values, strict=False)}


def numbers(found: dict[str, torch.Tensor]) -> list[float]:
    return [value.item() for value in found.values()]


def test_factors_worked_by_hand() -> None:
    c = numbers(modulation(tensors(0.02, 0.06, 0.0), None))
    assert c == pytest.approx([0.75, 0.25, 1.0], abs=1e-6)
    assert [1.3 * value for value in c] == pytest.approx([0.975, 0.325, 1.3], abs=1e-6)


def test_the_loss_on_directions_worked_by_hand() -> None:
    loss = direction_loss(tensors(0.75, 0.25, 1.0), tensors(0.5, 0.2, 0.1))
    assert loss.item() == pytest.approx(0.491667, abs=1e-6)


def test_with_two_modalities_each_has_the_part_of_the_other() -> None:
    assert numbers(modulation(tensors(0.03, 0.01), 2.0)) == pytest.approx([0.25, 0.75], abs=1e-6)


def test_gains_that_cancel_are_limited_unless_the_paper_is_wanted() -> None:
    assert numbers(modulation(tensors(0.1, -0.1), None)) == pytest.approx([-1e7, 1e7])
    assert numbers(modulation(tensors(0.1, -0.1), 2.0)) == [1.0, 1.0]
    assert numbers(modulation(tensors(-0.1, -0.3), 2.0)) == [1.0, 1.0]
    assert numbers(modulation(tensors(0.1, -0.08), 2.0)) == [0.0, 2.0]


@pytest.mark.parametrize("limit", [None, 0.5, 2.0])
@pytest.mark.parametrize("count", [2, 3])
def test_agrees_with_a_slow_reference(count: int, limit: float | None) -> None:
    generator = torch.Generator().manual_seed(count)
    for _ in range(20):
        gains = torch.randn(count, generator=generator, dtype=torch.float64).tolist()
        expected = slow_modulation(dict(zip("avt", gains, strict=False)), limit)
        assert numbers(modulation(tensors(*gains), limit)) == pytest.approx(list(expected.values()))


def test_the_cosine_agrees_with_autograd_and_a_slow_reference() -> None:
    generator = torch.Generator().manual_seed(0)
    fused, unimodal = torch.randn(2, 6, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    gradients = []
    for z in (fused, unimodal):
        z = z.clone().requires_grad_()  # noqa: PLW2901 - a leaf of its own
        torch.nn.functional.cross_entropy(z, labels).backward()
        assert z.grad is not None
        gradients.append(z.grad.flatten())
    found = cosine(fused, unimodal, labels).item()
    assert found == pytest.approx(torch.cosine_similarity(gradients[0], gradients[1], dim=0).item(), rel=1e-5)
    assert found == pytest.approx(slow_cosine(fused.tolist(), unimodal.tolist(), labels.tolist()), rel=1e-5)


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_the_second_step_has_the_loss_of_the_first_steps_factors(
    modalities: tuple[str, ...], trainer: Callable[..., Trainer]
) -> None:
    made = trainer(modalities, **{"lambda": 0.7})
    method, batch = method_of(made), a_batch(made)
    outputs = method.forward(made.ctx, batch)
    assert method.losses(made.ctx, outputs, batch)["direction"].item() == 0
    method.updates = 1
    method.coefficients = {m: torch.tensor(0.3 * number) for number, m in enumerate(modalities, start=1)}
    losses = method.losses(made.ctx, outputs, batch)
    labels = batch.labels.tolist()
    cosines = {
        m: slow_cosine(outputs.logits.tolist(), method.classifiers[m](outputs.features[m]).tolist(), labels)
        for m in modalities
    }
    expected = slow_direction({m: c.item() for m, c in method.coefficients.items()}, cosines)
    assert losses["direction"].item() == pytest.approx(0.7 * expected, rel=1e-4)
    losses["direction"].backward()
    reached = {g for g, ps in made.ctx.model.parameter_groups().items() if any(p.grad is not None for p in ps)}
    assert reached == {*modalities, "fusion"}
    assert all(p.grad is None for p in method.classifiers.parameters())


def test_a_classifier_gives_its_encoder_no_gradient(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    method, batch = method_of(made), a_batch(made)
    losses = method.losses(made.ctx, method.forward(made.ctx, batch), batch)
    (losses["classifier_audio"] + losses["classifier_visual"]).backward()
    assert all(p.grad is None for p in made.ctx.model.parameters())
    assert all(p.grad is not None for p in method.classifiers.parameters())


def test_an_encoders_gradients_are_multiplied_by_rho_and_its_factor(trainer: Callable[..., Trainer]) -> None:
    made = trainer(rho=1.3)
    method, batch = method_of(made), a_batch(made)
    outputs = method.forward(made.ctx, batch)
    method.backward(made.ctx, {"joint": method.losses(made.ctx, outputs, batch)["joint"]})
    before = {name: [p.grad.clone() for p in ps if p.grad is not None] for name, ps in groups(made).items()}
    method.updates = 1
    method.modulate(made.ctx, outputs, batch)
    right = {
        m: (method.classifiers[m](outputs.features[m]).argmax(dim=1) == batch.labels).float().mean().item() for m in TWO
    }
    assert sum(right.values()) > 0
    factors = {m: 1.3 * c for m, c in slow_modulation(right, 2.0).items()}
    for name, gradients in before.items():
        after = [p.grad for p in groups(made)[name]]
        torch.testing.assert_close(after, [factors.get(name, 1.0) * gradient for gradient in gradients])


def groups(trainer: Trainer) -> dict[str, list[torch.nn.Parameter]]:
    return trainer.ctx.model.parameter_groups()


def test_gains_of_epochs_are_those_of_their_mean_accuracies(trainer: Callable[..., Trainer]) -> None:
    made = trainer(gain="epoch")
    method = method_of(made)
    for accuracies in ([(0.1, 0.5), (0.3, 0.5)], [(0.4, 0.7), (0.2, 0.5)]):
        for audio, visual in accuracies:
            method.right["audio"].append(torch.tensor(audio))
            method.right["visual"].append(torch.tensor(visual))
        method.on_epoch_end(made.ctx)
    gains = {"audio": 0.3 - 0.2, "visual": 0.6 - 0.5}
    assert numbers(method.coefficients) == pytest.approx(list(slow_modulation(gains, 2.0).values()), rel=1e-4)
    assert method.right == {"audio": [], "visual": []}
