"""MMCosine: its logits, what does not change them, and that training and predictions use the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.mmcosine import slow_cosines
from support.training import bits, make_trainer, trained
from torch import Tensor

from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.methods.mmcosine import MMCosine, cosine_logits
from drcli.models.fusion import Concat, Sum
from drcli.recipe.schema import Recipe

TWO = ("audio", "visual")
THREE = ("audio", "visual", "text")


@pytest.fixture
def make(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer of mmcosine before its first step."""

    def made(modalities: tuple[str, ...] = TWO, fusion: Any = "concat", **settings: Any) -> Trainer:
        recipe = toy_recipe(modalities, fusion=fusion, method="mmcosine", methods={"mmcosine": settings})
        return make_trainer(recipe, tmp_path / f"{len(list(tmp_path.iterdir()))}")

    return made


def by_hand(kind: type[Concat] | type[Sum]) -> Concat | Sum:
    fusion = kind(kind.Settings(), dict.fromkeys(TWO, 2), 2)
    weights = {"audio": torch.tensor([[3.0, 4.0], [0.0, 5.0]]), "visual": torch.eye(2)}
    for m, (weight, columns) in fusion.readers().items():
        weight.data[:, columns] = weights[m]
    return fusion


@pytest.mark.parametrize("kind", [Concat, Sum])
def test_logits_by_hand(kind: type[Concat] | type[Sum]) -> None:
    """s = 10, W_a = (3, 4; 0, 5), h_a = (1, 0): (6, 0). W_v = I, h_v = (1, 1): (7.071068, 7.071068)."""
    features = {"audio": torch.tensor([[1.0, 0.0]]), "visual": torch.tensor([[1.0, 1.0]])}
    z = cosine_logits(by_hand(kind), features, 10.0)
    assert z[0].tolist() == pytest.approx([13.071068, 7.071068], abs=1e-5)
    assert z.softmax(dim=1)[0, 0].item() == pytest.approx(0.997527, abs=1e-6)


@pytest.mark.parametrize("fusion", ["concat", "sum"])
@pytest.mark.parametrize("modalities", [TWO, THREE], ids=len)
def test_agrees_with_the_literal_reference(
    modalities: tuple[str, ...], fusion: str, make: Callable[..., Trainer]
) -> None:
    trainer = make(modalities, fusion, scale=7.0)
    ctx, method = trainer.ctx, trainer.assembly.method
    outputs = method.forward(ctx, next(ctx.train.in_order(5)))
    found: Any = ctx.model.fusion
    weights = {m: weight[:, columns].tolist() for m, (weight, columns) in found.readers().items()}
    expected = slow_cosines(weights, {m: h.tolist() for m, h in outputs.features.items()}, 7.0)
    torch.testing.assert_close(outputs.logits, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert outputs.logits.abs().max() <= len(modalities) * 7.0 + 1e-4


def test_lengths_of_features_and_weights_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    fusion = Concat(Concat.Settings(), {"audio": 3, "visual": 4}, 5)
    features: dict[str, Tensor] = {m: torch.randn(6, n, generator=generator) for m, n in fusion.widths.items()}
    before = cosine_logits(fusion, features, 10.0)
    longer = {"audio": 8 * features["audio"], "visual": features["visual"]}
    torch.testing.assert_close(cosine_logits(fusion, longer, 10.0), before)
    fusion.linear.weight.data[:, 3:] *= 0.25
    torch.testing.assert_close(cosine_logits(fusion, features, 10.0), before)


@pytest.mark.parametrize("bias", [False, True])
def test_predictions_are_what_training_minimises(bias: bool, make: Callable[..., Trainer]) -> None:
    trainer = make(bias=bias)
    ctx, method = trainer.ctx, trainer.assembly.method
    ctx.model.eval()
    batch = next(ctx.val.in_order(6))
    assert bits(method.predict(ctx.model, batch).logits) == bits(method.forward(ctx, batch).logits)
    fusion: Any = ctx.model.fusion
    plain = cosine_logits(fusion, ctx.model(batch.inputs, batch.lengths).features, 10.0)
    torch.testing.assert_close(method.forward(ctx, batch).logits, plain + fusion.linear.bias * bias)


@pytest.mark.parametrize("bias", [False, True])
def test_the_bias_of_the_fusion_moves_only_where_it_is_used(
    bias: bool, make: Callable[..., Trainer], toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    before: Any = make().ctx.model.fusion
    after: Any = trained(toy_recipe(method="mmcosine", methods={"mmcosine": {"bias": bias}}), tmp_path / "run")
    assert isinstance(after.assembly.method, MMCosine)
    assert (bits(after.ctx.model.fusion.linear.bias) != bits(before.linear.bias)) == bias
    assert bits(after.ctx.model.fusion.linear.weight) != bits(before.linear.weight)


@pytest.mark.parametrize("fusion", ["film", "gated", "mmtm"])
def test_fusions_that_are_not_additive_are_refused(fusion: str, make: Callable[..., Trainer]) -> None:
    with pytest.raises(RecipeError, match=rf"fusion\.name = {fusion} +must be concat or sum for mmcosine"):
        make(fusion=fusion)
