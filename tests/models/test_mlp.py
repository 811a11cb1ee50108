"""The multilayer perceptron: its formula, the samples it takes, and the fusions over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from drcli.errors import UsageError
from drcli.models.fusion import Fusion
from drcli.models.mlp import Mlp
from drcli.models.multimodal import MultimodalModel
from drcli.names import BACKBONES, FUSIONS

WIDTHS = {"text": 5, "audio": 3, "visual": 4}


def make(shape: tuple[int, ...] = (5,), **settings: Any) -> Mlp:
    torch.manual_seed(0)
    return Mlp(Mlp.Settings(**{"hidden": (4, 3), **settings}), shape)


def normalised(x: Any, kind: str) -> Any:
    """Batch or layer normalisation in training, with scale 1 and shift 0."""
    if kind == "none":
        return x
    axis = 0 if kind == "batch" else 1
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


@pytest.mark.parametrize("kind", ["none", "batch", "layer"])
def test_the_features_are_those_of_the_formula(kind: str) -> None:
    encoder = make(normalisation=kind)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
    expected = x.numpy()
    for layer in (module for module in encoder.modules() if isinstance(module, nn.Linear)):
        product = expected @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        expected = np.maximum(normalised(product, kind), 0)
    np.testing.assert_allclose(encoder(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_widths_are_those_of_its_layers() -> None:
    encoder = make()
    assert (encoder.width, encoder.channels) == (3, (4, 3))
    kind = BACKBONES.load("mlp")
    assert kind(kind.Settings(), (100,)).width == 64
    sketch = kind.sketch(kind.Settings(hidden=(7,)))
    assert sketch is not None
    assert sketch.width == 7


@pytest.mark.parametrize("shape", [(1, 6), (2, 3), (1, 2, 3), (1, 3, 1, 2)], ids=len)
def test_other_samples_are_flattened(shape: tuple[int, ...]) -> None:
    x = torch.randn(4, 6)
    torch.testing.assert_close(make(shape)(x.reshape(4, *shape)), make((6,))(x), rtol=0, atol=0)


@pytest.mark.parametrize("setting", ["dropout", "input_dropout"])
def test_dropout_acts_in_training_alone(setting: str) -> None:
    settings: dict[str, Any] = {setting: 0.5}
    encoder, plain, x = make((5,), **settings), make(), torch.randn(8, 5)
    assert not torch.equal(encoder(x), plain(x))
    torch.testing.assert_close(encoder.eval()(x), plain.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["none", "batch", "layer"])
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    encoder = make(normalisation=kind, hidden=(16, 16))
    (encoder(torch.randn(32, 5)) * torch.randn(32, 16)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.abs().sum() > 0), name


@pytest.mark.parametrize("hidden", [(), (0,), (65_537,), (4,) * 65])
def test_no_layers_and_widths_out_of_range_are_refused(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Mlp.Settings(hidden=hidden)


def fused(name: str, **settings: Any) -> MultimodalModel:
    kind: type[Fusion] = FUSIONS.load(name)
    encoders = {m: make((width,), hidden=(16, 8)) for m, width in WIDTHS.items()}
    return MultimodalModel(encoders, kind.over(kind.Settings(**settings), encoders, 2))


def gradient_of_text(model: MultimodalModel) -> Tensor:
    x = {m: torch.randn(4, width, requires_grad=True) for m, width in WIDTHS.items()}
    model(x).features["audio"].sum().backward()
    found = x["text"].grad
    return torch.zeros(1) if found is None else found


@pytest.mark.parametrize(("name", "settings"), [("mmtm", {"stages": 2}), ("centralnet", {}), ("concat", {})])
def test_fusions_between_stages_take_a_layer_for_a_stage(name: str, settings: dict[str, Any]) -> None:
    model = fused(name, **settings)
    outputs = model({m: torch.randn(4, width) for m, width in WIDTHS.items()})
    assert outputs.logits.shape == (4, 2)
    assert {m: tuple(x.shape) for m, x in outputs.features.items()} == dict.fromkeys(WIDTHS, (4, 8))
    exchanges = bool(gradient_of_text(model).any())
    assert exchanges == (name == "mmtm")


def test_the_bottleneck_transformer_refuses_it() -> None:
    with pytest.raises(UsageError, match=r"modalities\.text\.backbone: must be a transformer \(transformer, vit\)"):
        fused("mbt")
