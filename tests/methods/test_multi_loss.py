"""The multi-loss: its value, what it moves, whose logits it uses, what it predicts with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from reference.multi_loss import slow_multi_loss
from support.training import bits, log, make_trainer, trained, weights
from torch import Tensor
from torch.nn import functional

from drcli.data.batches import Batch
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.multi_loss import MultiLoss
from drcli.models.centralnet import CentralNet
from drcli.models.fusion import Concat, Outputs
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of multi_loss before its first step."""

    def make(modalities: tuple[str, ...] = TWO, fusion: str = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="multi_loss", methods={"multi_loss": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return make


def method_of(trainer: Trainer) -> MultiLoss:
    method = trainer.assembly.method
    assert isinstance(method, MultiLoss)
    return method


def first(trainer: Trainer) -> tuple[Batch, Outputs]:
    batch = next(trainer.ctx.train.in_order(16))
    return batch, method_of(trainer).forward(trainer.ctx, batch)


def test_numbers_worked_by_hand(trainer: Callable[..., Trainer]) -> None:
    """Three classes and logits (0, 0, 0): every cross-entropy is ln 3, so L = ln 3 (1 + 2 * 0.5)."""
    made = trainer(weight=0.5)
    for parameter in [*made.assembly.extras.parameters(), *made.assembly.model.fusion.parameters()]:
        parameter.data.zero_()
    batch, outputs = first(made)
    losses = method_of(made).losses(made.ctx, outputs, batch)
    assert {k: loss.item() for k, loss in losses.items()} == pytest.approx(
        {"joint": 1.098612, "audio": 0.549306, "visual": 0.549306}, abs=1e-6
    )


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
@pytest.mark.parametrize("how", ["own", "slice"])
def test_agrees_with_a_slow_reference(how: str, modalities: tuple[str, ...], trainer: Callable[..., Trainer]) -> None:
    made = trainer(modalities, weight=0.7, unimodal_logits=how)
    batch, outputs = first(made)
    unimodal = {}
    for number, m in enumerate(modalities):
        if how == "own":
            layer: Any = method_of(made).heads[m]
            unimodal[m] = outputs.features[m] @ layer.weight.T + layer.bias
        else:
            fusion = made.assembly.model.fusion
            assert isinstance(fusion, Concat)
            width = outputs.features[m].shape[1]
            columns = fusion.linear.weight[:, number * width : (number + 1) * width]
            unimodal[m] = outputs.features[m] @ columns.T + fusion.linear.bias / len(modalities)
    losses = method_of(made).losses(made.ctx, outputs, batch)
    assert list(losses) == ["joint", *modalities]
    expected = slow_multi_loss(
        outputs.logits.tolist(), {m: z.tolist() for m, z in unimodal.items()}, batch.labels.tolist(), 0.7
    )
    assert torch.stack(list(losses.values())).sum().item() == pytest.approx(expected, rel=1e-5)


def test_a_unimodal_loss_reaches_its_own_encoder_and_head_alone(trainer: Callable[..., Trainer]) -> None:
    made = trainer(THREE)
    batch, outputs = first(made)
    method_of(made).losses(made.ctx, outputs, batch)["visual"].backward()
    reached = {g for g, ps in made.assembly.model.parameter_groups().items() if any(p.grad is not None for p in ps)}
    heads = {m for m, head in method_of(made).heads.items() if head.weight.grad is not None}
    assert reached == heads == {"visual"}


def test_the_weight_scales_the_gradient_of_an_own_head(trainer: Callable[..., Trainer]) -> None:
    gradients: list[Tensor] = []
    for weight in (1.0, 3.0):
        made = trainer(weight=weight)
        batch, outputs = first(made)
        method_of(made).backward(made.ctx, method_of(made).losses(made.ctx, outputs, batch))
        head: Any = method_of(made).heads["audio"]
        gradients.append(head.weight.grad)
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


def test_multi_loss_with_one_modality_is_joint_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    methods: dict[str, Any] = {"multi_loss": {}, "joint": {}}
    runs = [
        trained(toy_recipe(("audio",), method=name, methods=methods), tmp_path / name)
        for name in ("multi_loss", "joint")
    ]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))
    assert log(runs[0].directory.folder / "metrics.jsonl") == log(runs[1].directory.folder / "metrics.jsonl")


def test_predicts_with_the_fused_logits(trainer: Callable[..., Trainer]) -> None:
    made = trainer()
    batch, outputs = first(made)
    predicted = method_of(made).predict(made.assembly.model, batch)
    assert torch.equal(predicted.logits, outputs.logits)


def test_the_fusions_logits_need_no_head_of_its_own(trainer: Callable[..., Trainer]) -> None:
    assert list(trainer(unimodal_logits="slice").assembly.extras.parameters()) == []
    assert len(list(trainer(unimodal_logits="own").assembly.extras.parameters())) == 4


def test_logits_that_the_fusion_does_not_offer_are_refused(trainer: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"methods\.multi_loss\.unimodal_logits = head +must be own or slice with"):
        trainer(unimodal_logits="head")
    with pytest.raises(RecipeError, match=r"unimodal_logits = slice +must be own or head with fusion centralnet"):
        trainer(fusion="centralnet", unimodal_logits="slice")


def test_heads_of_the_fusion_are_used(trainer: Callable[..., Trainer]) -> None:
    made = trainer(fusion="centralnet", unimodal_logits="head")
    batch, outputs = first(made)
    losses = method_of(made).losses(made.ctx, outputs, batch)
    heads = cast("CentralNet", made.assembly.model.fusion).heads
    for m in TWO:
        torch.testing.assert_close(losses[m], functional.cross_entropy(heads[m](outputs.features[m]), batch.labels))
    assert list(made.assembly.extras.parameters()) == []


@pytest.mark.parametrize("fusion", ["film", "mmtm"])
def test_own_heads_work_with_fusions_that_offer_none(fusion: str, trainer: Callable[..., Trainer]) -> None:
    made = trainer(fusion=fusion)
    batch, outputs = first(made)
    assert list(method_of(made).losses(made.ctx, outputs, batch)) == ["joint", *TWO]
