"""DGL: which loss reaches what, and that no encoder hears of the other modalities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.dgl import slow_gradients
from support.training import bits, make_trainer, trained, weights
from torch import Tensor, nn

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.dgl import DGL
from drcli.models.fusion import Concat, Outputs
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of dgl before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: Any = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="dgl", methods={"dgl": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def differentiated(trainer: Trainer, features: dict[str, Tensor], labels: Tensor) -> None:
    """Fill the gradients of features, taken for those of encoders, and of the fusion."""
    ctx, method = trainer.ctx, trainer.assembly.method
    assert isinstance(method, DGL)
    ctx.model.encoders = nn.ModuleDict({m: nn.ParameterList([h]) for m, h in features.items()})
    outputs = Outputs(features, ctx.model.fusion(features))
    batch = replace(next(ctx.train.in_order(len(labels))), labels=labels)
    method.backward(ctx, method.losses(ctx, outputs, batch))


def test_gradients_by_hand(make: Callable[..., Trainer]) -> None:
    """W = I, b = 0, h = (1, 1), y = 0: p = (1/2, 1/2) and p_a = (0.731059, 0.268941).

    dL/dh_a = -0.268941 alpha, where joint training has -0.5; dL/dW is the fused loss's.
    """
    trainer = make(alpha=4.0)
    trainer.ctx.model.fusion = Concat(Concat.Settings(), dict.fromkeys(TWO, 1), 2)
    trainer.ctx.model.fusion.linear.weight.data = torch.eye(2)
    trainer.ctx.model.fusion.linear.bias.data.zero_()
    features: dict[str, Tensor] = {m: nn.Parameter(torch.ones(1, 1)) for m in TWO}
    differentiated(trainer, features, torch.tensor([0]))
    gradients = [features[m].grad for m in TWO]
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert gradients[0].item() == pytest.approx(-1.075766, abs=1e-6)
    assert gradients[1].item() == pytest.approx(4 * 0.731059, abs=1e-5)
    weight = trainer.ctx.model.fusion.linear.weight.grad
    assert weight is not None
    assert weight.tolist() == [[-0.5, -0.5], [0.5, 0.5]]


@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_agrees_with_the_literal_reference(modalities: tuple[str, ...], make: Callable[..., Trainer]) -> None:
    trainer = make(modalities, alpha=2.5)
    fusion = trainer.ctx.model.fusion
    assert isinstance(fusion, Concat)
    generator = torch.Generator().manual_seed(0)
    rows = {m: torch.randn(6, fusion.widths[m], generator=generator) for m in modalities}
    features: dict[str, Tensor] = {m: nn.Parameter(x) for m, x in rows.items()}
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    differentiated(trainer, features, labels)
    of_weight, of_features = slow_gradients(
        fusion.linear.weight.tolist(),
        fusion.linear.bias.tolist(),
        [x.tolist() for x in rows.values()],
        labels.tolist(),
        2.5,
    )
    assert fusion.linear.weight.grad is not None
    torch.testing.assert_close(fusion.linear.weight.grad, torch.tensor(of_weight), rtol=1e-4, atol=1e-5)
    for m, expected in zip(modalities, of_features, strict=True):
        torch.testing.assert_close(features[m].grad, torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
def test_the_gradient_of_an_encoder_does_not_change_with_the_input_of_another(
    fusion: str, make: Callable[..., Trainer]
) -> None:
    found = []
    for replaced in (False, True):
        trainer = make(fusion=fusion)
        batch = next(trainer.ctx.train.in_order(16))
        if replaced:
            batch = replace(batch, inputs={**batch.inputs, "visual": batch.inputs["visual"].flip(0) + 1})
        trainer.assembly.method.training_step(trainer.ctx, batch)
        found.append({m: bits([p.grad for p in e.parameters()]) for m, e in trainer.ctx.model.encoders.items()})
    assert found[0]["audio"] == found[1]["audio"]
    assert found[0]["visual"] != found[1]["visual"]


def test_the_fusion_learns_from_the_fused_loss_alone(make: Callable[..., Trainer]) -> None:
    """Its gradient does not depend on alpha; that of the encoders is proportional to it."""
    found = []
    for alpha in (1.0, 3.0):
        trainer = make(THREE, alpha=alpha)
        trainer.assembly.method.training_step(trainer.ctx, next(trainer.ctx.train.in_order(16)))
        found.append({g: [p.grad for p in ps] for g, ps in trainer.ctx.model.parameter_groups().items()})
    assert bits(found[0]["fusion"]) == bits(found[1]["fusion"])
    for m in THREE:
        for one, three in zip(found[0][m], found[1][m], strict=True):
            assert one is not None
            torch.testing.assert_close(three, 3 * one, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fusion", ["mmtm", "centralnet"])
def test_fusions_between_encoders_are_refused(fusion: str, make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=r"fusion\.name = .* must be concat or sum or .*late_transformer for dgl"):
        make(fusion=fusion)


def test_one_modality_is_joint_training(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    methods: dict[str, Any] = {"dgl": {}, "joint": {}}
    runs = [trained(toy_recipe(("audio",), method=name, methods=methods), tmp_path / name) for name in methods]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))
