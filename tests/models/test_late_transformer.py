"""The late transformer: the formula, what it takes, and what it does not look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import make_trainer
from torch import Tensor

from drcli.errors import RecipeError
from drcli.models.late_transformer import LateTransformer
from drcli.names import FUSIONS
from drcli.recipe.schema import Recipe

WIDTHS = {"audio": 5, "visual": 3, "text": 4}


def fusion_of(modalities: Iterable[str] = WIDTHS, **settings: Any) -> LateTransformer:
    torch.manual_seed(0)
    chosen = LateTransformer.Settings(**{"dim": 8, "heads": 2, "layers": 2, "feedforward": 6, **settings})
    return LateTransformer(chosen, {m: WIDTHS[m] for m in modalities}, 4).eval()


def features(modalities: Iterable[str] = WIDTHS) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(6, WIDTHS[m], generator=generator) for m in modalities}


def slow_norm(x: Tensor, layer: Any) -> Tensor:
    centred = x - x.mean()
    found: Tensor = centred / (centred.square().mean() + layer.eps).sqrt() * layer.weight + layer.bias
    return found


def slow_attention(rows: list[Tensor], layer: Any, heads: int) -> list[Tensor]:
    """Every row looks at every row, head by head."""
    dim = len(rows[0])
    projected = [(layer.in_proj_weight @ x + layer.in_proj_bias).split(dim) for x in rows]
    size = dim // heads
    found = []
    for query, _, _ in projected:
        parts = []
        for h in range(heads):
            span = slice(h * size, (h + 1) * size)
            weights = torch.stack([query[span] @ key[span] / math.sqrt(size) for _, key, _ in projected]).softmax(dim=0)
            parts.append(sum(w * value[span] for w, (_, _, value) in zip(weights, projected, strict=True)))
        found.append(layer.out_proj.weight @ torch.cat(parts) + layer.out_proj.bias)
    return found


def slow_logits(fusion: LateTransformer, h: dict[str, Tensor], row: int) -> Tensor:
    """The formula for one sample, token by token."""
    tokens: list[Tensor] = [fusion.token]
    for m, x in h.items():
        projection: Any = fusion.projections[m]
        tokens.append(projection.weight @ x[row] + projection.bias + fusion.embeddings[m])
    for layer in fusion.layers.layers:
        block: Any = layer
        seen = slow_attention([slow_norm(x, block.norm1) for x in tokens], block.self_attn, fusion.settings.heads)
        tokens = [x + y for x, y in zip(tokens, seen, strict=True)]
        tokens = [x + block.linear2(block.linear1(slow_norm(x, block.norm2)).relu()) for x in tokens]
    found: Tensor = fusion.linear(slow_norm(tokens[0], fusion.norm))
    return found


@pytest.mark.parametrize("modalities", [("audio",), ("audio", "visual"), tuple(WIDTHS)], ids=len)
def test_the_logits_are_those_of_the_formula(modalities: tuple[str, ...]) -> None:
    fusion, h = fusion_of(modalities), features(modalities)
    logits = fusion(h)
    for row in range(6):
        torch.testing.assert_close(logits[row], slow_logits(fusion, h, row), rtol=1e-4, atol=1e-5)


def test_the_order_of_the_features_does_not_matter() -> None:
    fusion, h = fusion_of(), features()
    assert torch.equal(fusion(dict(reversed(h.items()))), fusion(h))


def test_a_sample_does_not_look_at_another() -> None:
    fusion, h = fusion_of(), features()
    changed = {m: torch.cat([x[:1], 9 * x[1:]]) for m, x in h.items()}
    torch.testing.assert_close(fusion(changed)[0], fusion(h)[0])


def test_logits_of_one_modality_are_those_with_the_others_zero() -> None:
    fusion, h = fusion_of(), features()
    assert fusion.offers(fusion.settings) == ("zero_others",)
    alone = fusion.unimodal_logits(h, "zero_others")["visual"]
    assert torch.equal(alone, fusion({m: x if m == "visual" else torch.zeros_like(x) for m, x in h.items()}))


def test_a_width_that_its_heads_cannot_share_is_refused(toy_recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"fusion.*dim 10 is not a multiple of heads 4"):
        toy_recipe(fusion={"name": "late_transformer", "dim": 10})


def test_it_trains_with_every_encoder_and_belongs_to_the_fusion(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    block = {"name": "late_transformer", "dim": 8, "feedforward": 8}
    training = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
    recipe = toy_recipe(("audio", "visual", "text"), fusion=block, method="joint", training=training)
    trainer = make_trainer(recipe, tmp_path)
    groups = trainer.ctx.model.parameter_groups()
    before = {name: [p.detach().clone() for p in ps] for name, ps in groups.items()}
    trainer.train()
    assert len(groups["fusion"]) == len(list(trainer.ctx.model.fusion.parameters()))
    for name, parameters in groups.items():
        assert not any(torch.equal(old, new) for old, new in zip(before[name], parameters, strict=True)), name


def test_it_is_registered() -> None:
    assert FUSIONS.load("late_transformer") is LateTransformer
