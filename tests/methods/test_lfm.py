"""LFM: its divergence, its weight and how that is learned."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from reference.lfm import slow_loss
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained, weights
from torch.nn import functional

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.lfm import LFM, fitted_weight
from drcli.methods.parts.divergence import divergence
from drcli.recipe.schema import Recipe
from drcli.relearning.features import evaluating

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of LFM before its first step."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="lfm", methods={"lfm": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> LFM:
    method = trainer.assembly.method
    assert isinstance(method, LFM)
    return method


@pytest.mark.parametrize(
    ("p", "kind", "expected"),
    [
        ((0.8, 0.2), "js", 0.192745),
        ((0.8, 0.2), "reversed", 0.223144),
        ((0.6, 0.4), "js", 0.020136),
        ((0.6, 0.4), "reversed", 0.020411),
        ((0.5, 0.5), "js", 0.0),
    ],
)
def test_divergences_worked_by_hand(p: tuple[float, float], kind: Literal["js", "reversed"], expected: float) -> None:
    """Of p and p turned round."""
    first, second = torch.tensor([p]).log(), torch.tensor([p[::-1]]).log()
    assert divergence(first, second, kind).item() == pytest.approx(expected, abs=1e-6)


def test_equal_logits_are_aligned_and_opposite_ones_are_ln_2_apart() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert divergence(logits, logits + 3).item() == pytest.approx(0, abs=1e-6)
    far = torch.tensor([[200.0, 0.0]])
    assert divergence(far, far.flip(1)).item() == pytest.approx(math.log(2), abs=1e-6)
    assert divergence(far, far.flip(1), "reversed").item() > 90


@pytest.mark.parametrize(
    ("epoch", "weight"),
    [(0, 0.204624), (10, 0.247759), (50, 0.436681), (100, 0.539155), (150, 0.821314), (199, 0.915989), (183, 1.0)],
)
def test_the_fitted_schedule_is_that_of_the_authors(epoch: int, weight: float) -> None:
    """What their function returns; in epoch 183 it returns 1.0105, by which the alignment would count negatively."""
    assert fitted_weight(epoch) == pytest.approx(weight, abs=1e-6)


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("kind", ["js", "reversed"])
def test_agrees_with_a_slow_reference(kind: str, modalities: tuple[str, ...], trainer: Callable[..., Trainer]) -> None:
    made = trainer(modalities, start=0.3, divergence=kind)
    method, batch = method_of(made), next(made.ctx.train.in_order(16))
    outputs = method.forward(made.ctx, batch)
    losses = method.losses(made.ctx, outputs, batch)
    unimodal = made.ctx.model.unimodal_logits(outputs.features, "slice")
    expected = slow_loss(
        outputs.logits.tolist(), {m: z.tolist() for m, z in unimodal.items()}, batch.labels.tolist(), 0.3, kind
    )
    assert [losses["joint"].item(), losses["alignment"].item()] == pytest.approx(expected, rel=1e-4)


def test_the_fitted_weight_follows_the_run(trainer: Callable[..., Trainer]) -> None:
    """Epoch 2 of 4 is epoch 100 of 200."""
    made = trainer(schedule="fitted")
    made.ctx.epoch = 2
    method_of(made).on_epoch_start(made.ctx)
    assert method_of(made).alignment == pytest.approx(1 - 0.539155, abs=1e-6)


@pytest.mark.slow
def test_a_run_with_the_fitted_schedule_learns_follows_it_and_is_resumed(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """60 rows, 5 epochs: epoch e is epoch 40 e of 200, where the authors' function gives these weights."""
    training = {"epochs": 5, "batch_size": 8, "optimizer": {"name": "adamw", "lr": 0.03}}
    recipe = toy_recipe(TWO, method="lfm", methods={"lfm": {"schedule": "fitted"}}, training=training)
    whole = trained(recipe, tmp_path / "whole")
    lines = log(tmp_path / "whole" / "metrics.jsonl")
    expected = [1 - weight for weight in (0.204624, 0.399885, 0.500220, 0.614572, 0.900721)]
    assert [line["train"]["coefficient/alignment"] for line in lines] == pytest.approx(expected, abs=1e-6)
    assert lines[0]["val"]["accuracy"] < 0.4
    assert lines[-1]["val"]["accuracy"] > 0.6
    stopped = make_trainer(recipe, tmp_path / "parts", listener=StopAfter(2))
    with pytest.raises(StoppedError):
        stopped.train()
    again = make_trainer(recipe, tmp_path / "parts")
    again.resume()
    assert again.next_epoch == 2
    again.train()
    assert bits(weights(again)) == bits(weights(whole))
    assert log(tmp_path / "parts" / "metrics.jsonl") == lines


def test_the_slope_is_that_of_the_loss_after_a_step_in_float_differences(trainer: Callable[..., Trainer]) -> None:
    """(CE after a step with weight a + e - CE after a step with a - e) / 2e, per unit of the learning rate."""
    made = trainer(rows=12)
    made.ctx.epoch = 1
    method, model = method_of(made), made.ctx.model.double()
    eta, step = 1e-4, 0.5

    def drawn(split: str) -> Any:
        batches = made.ctx.val if split == "val" else made.ctx.train
        rows = torch.randperm(len(batches), generator=made.ctx.generator("lfm", split))[:12]
        batch = batches.take(rows)
        inputs = {m: x.double() for m, x in batch.inputs.items()}
        features = {m: made.ctx.model.encoders[m](x) for m, x in inputs.items()}
        return features, made.ctx.model.fusion(features), batch.labels

    def after(weight: float) -> float:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        with evaluating(model), torch.enable_grad():
            features, logits, labels = drawn("train")
            u, v = made.ctx.model.unimodal_logits(features, "slice").values()
            loss = (1 - weight) * functional.cross_entropy(logits, labels) + weight * divergence(u, v)
            found = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), found, strict=True):
                    parameter.sub_(eta * gradient)
            _, logits, labels = drawn("val")
            value = functional.cross_entropy(logits, labels).item()
        model.load_state_dict(before, strict=False)
        return value

    numeric = (after(0.5 + step) - after(0.5 - step)) / (2 * step * eta)
    model.float()
    assert method._slope(made.ctx) == pytest.approx(numeric, rel=1e-3)


def test_the_learned_weight_takes_its_step_and_stays_within_its_bounds(
    trainer: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer(start=0.5, rate=0.1, halve=2)
    method = method_of(made)
    monkeypatch.setattr(LFM, "_slope", lambda *_: 2.0)
    found = []
    for epoch in range(6):
        made.ctx.epoch = epoch
        method.on_epoch_start(made.ctx)
        found.append(method.alignment)
    assert found == pytest.approx([0.5, 0.3, 0.2, 0.1, 0.05, 0.05])
    monkeypatch.setattr(LFM, "_slope", lambda *_: -1000.0)
    method.on_epoch_start(made.ctx)
    assert method.alignment == 0.95


def test_learning_the_weight_disturbs_neither_weights_nor_gradients(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    made.ctx.epoch = 1
    before = bits(made.ctx.model.state_dict())
    state = torch.get_rng_state()
    method_of(made).on_epoch_start(made.ctx)
    assert bits(made.ctx.model.state_dict()) == before
    assert all(p.grad is None for p in made.ctx.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert made.ctx.model.training


def test_one_modality_is_joint_training_and_says_so(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    methods: dict[str, Any] = {"lfm": {}, "joint": {}}
    runs = [trained(toy_recipe(("audio",), method=name, methods=methods), tmp_path / name) for name in methods]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))
    assert list(runs[0].assembly.method.warnings(runs[0].ctx)) == [
        "one modality has nothing to align with: this is joint training"
    ]


def test_the_weight_is_logged(trainer: Callable[..., Trainer]) -> None:
    made = trainer(schedule="fixed", start=0.25)
    made.train()
    lines = log(made.directory.folder / "metrics.jsonl")
    assert [line["train"]["coefficient/alignment"] for line in lines] == [0.25] * 4


def test_logits_that_the_fusion_does_not_offer_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"lfm\.unimodal_logits = slice +must be zero_others with fusion film"):
        trainer(fusion="film")
    assert trainer(fusion="film", unimodal_logits="zero_others")
