"""FiLM and gated fusion: the formula, who acts upon whom, what is refused, and what D&R leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import bits, make_trainer, weights
from torch import Tensor

from drcli.errors import RecipeError, UsageError
from drcli.models.fusion import Fusion
from drcli.models.multimodal import MultimodalModel
from drcli.models.resnet import ResNetSmall
from drcli.names import BACKBONES, FUSIONS
from drcli.recipe.schema import Recipe

WIDTHS = {"audio": 5, "visual": 3}
ROLES = {"film": "conditioner", "gated": "gate"}

both = pytest.mark.parametrize("name", list(ROLES))


def fusion_of(name: str, **settings: Any) -> Fusion:
    torch.manual_seed(0)
    kind = FUSIONS.load(name)
    fusion: Fusion = kind(kind.Settings(**settings), WIDTHS, 4)
    return fusion


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(6, width, generator=generator) for m, width in WIDTHS.items()}


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    """A linear layer of one sample, a sum at a time."""
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return np.array([sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)])


def slow_film(fusion: Any, acting: np.ndarray, other: np.ndarray) -> np.ndarray:
    both_halves = linear(fusion.modulation, acting)
    gamma, beta = both_halves[: len(other)], both_halves[len(other) :]
    return linear(fusion.linear, gamma * other + beta)


def slow_gated(fusion: Any, acting: np.ndarray, other: np.ndarray) -> np.ndarray:
    gate = 1 / (1 + np.exp(-linear(fusion.opening, acting)))
    return linear(fusion.linear, gate * linear(fusion.value, other))


@both
@pytest.mark.parametrize(("named", "acting"), [(None, "audio"), ("audio", "audio"), ("visual", "visual")])
def test_the_logits_are_those_of_the_formula(name: str, named: str | None, acting: str) -> None:
    fusion, h = fusion_of(name, **{ROLES[name]: named}), features()
    (other,) = set(WIDTHS) - {acting}
    slow = {"film": slow_film, "gated": slow_gated}[name]
    expected = [slow(fusion, a, o) for a, o in zip(h[acting].numpy(), h[other].numpy(), strict=True)]
    np.testing.assert_allclose(fusion(h).detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    turned = dict(reversed(h.items()))
    assert torch.equal(fusion(turned), fusion(h))


def test_film_by_hand() -> None:
    """h_c = 2: gamma = 3 * 2 = 6, beta = 1 * 2 + 1 = 3; h_o = 4: z = 2 (6 * 4 + 3) + 5 = 59."""
    kind = FUSIONS.load("film")
    fusion = kind(kind.Settings(), {"audio": 1, "visual": 1}, 1)
    fusion.load_state_dict(
        {
            "modulation.weight": torch.tensor([[3.0], [1.0]]),
            "modulation.bias": torch.tensor([0.0, 1.0]),
            "linear.weight": torch.tensor([[2.0]]),
            "linear.bias": torch.tensor([5.0]),
        }
    )
    assert fusion({"audio": torch.tensor([[2.0]]), "visual": torch.tensor([[4.0]])}).item() == 59.0


def test_gated_by_hand() -> None:
    """u = 0: the gate is 1/2; v = 3 * 4 + 2 = 14: z = 2 * 7 + 5 = 19."""
    kind = FUSIONS.load("gated")
    fusion = kind(kind.Settings(), {"audio": 1, "visual": 1}, 1)
    fusion.load_state_dict(
        {
            "opening.weight": torch.tensor([[1.0]]),
            "opening.bias": torch.tensor([-2.0]),
            "value.weight": torch.tensor([[3.0]]),
            "value.bias": torch.tensor([2.0]),
            "linear.weight": torch.tensor([[2.0]]),
            "linear.bias": torch.tensor([5.0]),
        }
    )
    assert fusion({"audio": torch.tensor([[2.0]]), "visual": torch.tensor([[4.0]])}).item() == 19.0


@pytest.mark.parametrize(("width", "expected"), [(None, 3), (7, 7)])
def test_the_gated_meet_at_the_narrower_width_unless_told(width: int | None, expected: int) -> None:
    fusion = fusion_of("gated", width=width)
    shapes = {key: tuple(tensor.shape) for key, tensor in fusion.state_dict().items() if key.endswith("weight")}
    assert shapes == {
        "opening.weight": (expected, 5),
        "value.weight": (expected, 3),
        "linear.weight": (4, expected),
    }


@both
def test_unimodal_logits_come_from_zeros_in_place_of_the_other_modality(name: str) -> None:
    fusion, h = fusion_of(name), features()
    assert fusion.offers(fusion.settings) == ("zero_others",)
    found = fusion.unimodal_logits(h, "zero_others")
    assert torch.equal(found["visual"], fusion({**h, "audio": torch.zeros(6, 5)}))
    assert torch.equal(found["audio"], fusion({**h, "visual": torch.zeros(6, 3)}))


@both
def test_a_modality_that_is_none_is_refused(name: str) -> None:
    kind = FUSIONS.load(name)
    encoders = {m: ResNetSmall(ResNetSmall.Settings(width=4), (1, 8, 8)) for m in ("audio", "visual")}
    settings = kind.Settings(**{ROLES[name]: "vsual"})
    key = f"fusion.{ROLES[name]}"
    message = "is not a modality of this model; known: audio, visual. Did you mean visual?"
    with pytest.raises(UsageError) as caught:
        kind.over(settings, encoders, 4)
    assert str(caught.value) == f"{key}: {message}"
    assert list(kind.check(settings, encoders)) == [(key, message)]
    assert list(kind.check(kind.Settings(), encoders)) == []
    assert list(kind.check(kind.Settings(**{ROLES[name]: "visual"}), encoders)) == []


@both
@pytest.mark.parametrize("modalities", [("audio",), ("audio", "visual", "text")], ids=len)
def test_other_numbers_of_modalities_are_refused(
    name: str, modalities: tuple[str, ...], toy_recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError, match=rf"fusion\.name.* {name} +takes 2 modalities, the recipe has"):
        toy_recipe(modalities, fusion=name)


@both
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_encoders_of_unequal_widths_and_kinds_train_and_logits_are_float32(name: str, precision: Any) -> None:
    torch.manual_seed(0)
    transformer = BACKBONES.load("transformer")
    encoders = {
        "audio": transformer(transformer.Settings(), (7, 3)),
        "visual": ResNetSmall(ResNetSmall.Settings(width=4), (1, 8, 8)),
    }
    kind = FUSIONS.load(name)
    model = MultimodalModel(encoders, kind.over(kind.Settings(), encoders, 4), precision)
    outputs = model({"audio": torch.randn(6, 7, 3), "visual": torch.randn(6, 1, 8, 8)})
    assert (outputs.logits.shape, outputs.logits.dtype) == ((6, 4), torch.float32)
    assert {m: tuple(h.shape) for m, h in outputs.features.items()} == {"audio": (6, 40), "visual": (6, 16)}
    outputs.logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@both
def test_an_event_of_diagnose_relearn_moves_encoder_parameters_alone(
    name: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = make_trainer(toy_recipe(fusion=name), tmp_path)
    trainer._epoch(0)
    trainer.ctx.epoch = 1
    before = weights(trainer)
    event = trainer.assembly.method.on_epoch_end(trainer.ctx)
    assert event is not None
    assert all(found.strength > 0 for found in event.found.values())
    parameters = {key for key, _ in trainer.assembly.model.named_parameters()}
    moved = {key for key, tensor in weights(trainer).items() if bits(tensor) != bits(before[key])}
    assert moved == {key for key in parameters if key.startswith("encoders.")}
