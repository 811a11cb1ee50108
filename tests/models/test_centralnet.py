"""The central network: what its blocks are given, what reaches its output, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from reference.centralnet import slow_mixture
from support.training import bits
from torch import Tensor
from torch.nn import functional

from drcli.errors import UsageError
from drcli.models.centralnet import CentralNet, pooled, widened
from drcli.models.multimodal import MultimodalModel
from drcli.models.resnet import ResNet18, ResNetSmall
from drcli.models.transformer import Transformer

SHAPES = {"audio": (1, 12, 9), "visual": (2, 3, 8, 10), "flow": (2, 7, 7)}
WIDTHS = {"audio": 2, "visual": 4, "flow": 3}
MODALITIES = ("audio", "visual", "flow")


def model_of(modalities: Sequence[str] = MODALITIES, **settings: Any) -> MultimodalModel:
    torch.manual_seed(0)
    encoders = {m: ResNetSmall(ResNetSmall.Settings(width=WIDTHS[m]), SHAPES[m]) for m in modalities}
    return MultimodalModel(encoders, CentralNet.over(CentralNet.Settings(**settings), encoders, 3))


def central_of(model: MultimodalModel) -> Any:
    """The fusion, whose layers and scalars torch does not tell the types of."""
    assert isinstance(model.fusion, CentralNet)
    return model.fusion


def inputs_of(modalities: Sequence[str] = MODALITIES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {m: torch.randn(4, *SHAPES[m], generator=generator) for m in modalities}


@pytest.mark.parametrize("scalars", ["raw", "sigmoid"])
@pytest.mark.parametrize("level", [0, 2])
def test_what_a_block_is_given_follows_the_formula(level: int, scalars: str) -> None:
    fusion = central_of(model_of(scalars=scalars))
    sizes = {"audio": (5, 4), "visual": (4, 6), "flow": (7, 7)}
    maps = {m: torch.randn(2, WIDTHS[m] * 2**level, *size) for m, size in sizes.items()}
    central = torch.randn(2, 16, 4, 5) if level else None
    numbers = {m: fusion.shares[m][level] for m in maps}
    terms = [(numbers[m], maps[m]) for m in maps]
    if central is not None:
        terms.append((fusion.carry[level - 1], central))
    if scalars == "sigmoid":
        terms = [(a.sigmoid(), x) for a, x in terms]
    expected = slow_mixture([(a.item(), x.numpy()) for a, x in terms])
    found = fusion.mixed(level, central, maps)
    assert found.shape == (2, 4 * 2**level, 4, 4)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_a_central_state_of_zeros_adds_nothing() -> None:
    """Level 0 has no central state; one of zeros at level 1 changes nothing."""
    fusion = central_of(model_of())
    maps = {m: torch.randn(2, WIDTHS[m] * 2, 4, 4) for m in MODALITIES}
    torch.testing.assert_close(fusion.mixed(1, torch.zeros(2, 8, 4, 4), maps), fusion.mixed(1, None, maps))


def test_scalars_start_between_0_and_1() -> None:
    fusion = central_of(model_of())
    drawn = torch.cat([*fusion.shares.values(), fusion.carry]).detach()
    assert len(drawn) == 3 * 3 + 2
    assert len(set(drawn.tolist())) == len(drawn)
    assert 0 <= drawn.min() < drawn.max() < 1


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 5), (7, 6)])
def test_pooling_is_adaptive_average_pooling(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, 7, 6)
    torch.testing.assert_close(pooled(maps, size), functional.adaptive_avg_pool2d(maps, size))
    assert torch.equal(widened(maps, 5)[:, :3], maps)
    assert not widened(maps, 5)[:, 3:].any()


@pytest.mark.parametrize("kept", MODALITIES)
def test_the_central_output_depends_on_the_modalities_with_a_share(kept: str) -> None:
    model = model_of().eval()
    for m, share in central_of(model).shares.items():
        if m != kept:
            torch.nn.init.zeros_(share)
    inputs = inputs_of()
    before = model(inputs)
    for m in MODALITIES:
        after = model({**inputs, m: inputs[m] + 1})
        assert torch.equal(after.logits, before.logits) == (m != kept)
        assert not torch.equal(after.features[m], before.features[m])


def test_the_central_network_reads_and_does_not_write() -> None:
    """Features are those of the encoders alone, frames averaged."""
    model = model_of().eval()
    inputs = inputs_of()
    features = model(inputs).features
    assert bits(model.encode(inputs)) == bits(features)
    for m in MODALITIES:
        torch.testing.assert_close(features[m], model.encoders[m](inputs[m]))


def test_predicting_by_the_sum_adds_all_heads() -> None:
    central, summed = model_of().eval(), model_of(predict="sum").eval()
    summed.load_state_dict(central.state_dict())
    inputs = inputs_of()
    outputs = central(inputs)
    heads = central.unimodal_logits(outputs.features, "head")
    torch.testing.assert_close(heads["flow"], central_of(central).heads["flow"](outputs.features["flow"]))
    torch.testing.assert_close(summed(inputs).logits, outputs.logits + sum(heads.values()))
    assert CentralNet.offers(CentralNet.Settings()) == ("head",)


def test_the_paper_s_loss_reaches_every_parameter_and_the_central_one_all_but_the_heads() -> None:
    model = model_of()
    outputs = model(inputs_of())
    outputs.logits.square().sum().backward(retain_graph=True)
    untouched = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert untouched == {name for name, _ in model.named_parameters() if ".heads." in name}
    heads = model.unimodal_logits(outputs.features, "head").values()
    torch.stack([z.square().sum() for z in heads]).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_the_order_of_the_modalities_means_nothing() -> None:
    first, second = model_of(MODALITIES).eval(), model_of(MODALITIES[::-1]).eval()
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first(inputs_of()).logits, second(inputs_of()).logits)


def test_one_modality_and_maps_of_one_place() -> None:
    model = model_of(("flow",))
    logits = model({"flow": torch.randn(4, 2, 1, 1)}).logits
    assert logits.shape == (4, 3)
    logits.sum().backward()


def test_blocks_over_resnet18_halve_the_size_and_take_the_next_channels() -> None:
    encoders = {m: ResNet18(ResNet18.Settings(), (c, 64, 64)) for m, c in (("audio", 1), ("visual", 3))}
    fusion = CentralNet.over(CentralNet.Settings(), encoders, 5)
    blocks: Any = fusion.blocks
    convolutions = [block[0] for block in blocks]
    assert [(c.in_channels, c.out_channels, c.stride[0]) for c in convolutions] == [
        (64, 128, 2),
        (128, 256, 2),
        (256, 512, 2),
        (512, 512, 1),
    ]


def test_encoders_that_do_not_fit_are_refused() -> None:
    settings = CentralNet.Settings()
    small, large = ResNetSmall(ResNetSmall.Settings(), (1, 8, 8)), ResNet18(ResNet18.Settings(), (1, 8, 8))
    with pytest.raises(
        UsageError, match=r"modalities\.b\.backbone: has 4 stages and that of a has 3: fusion centralnet"
    ):
        CentralNet.over(settings, {"a": small, "b": large}, 3)
    text = Transformer(Transformer.Settings(dim=10, layers=3), (6, 5))
    with pytest.raises(UsageError, match=r"modalities\.text\.backbone: gives tokens, .* use a convolutional one"):
        CentralNet.over(settings, {"audio": small, "text": text}, 3)


def test_bf16_gives_what_fp32_gives_nearly() -> None:
    model = model_of().eval()
    plain = model(inputs_of()).logits
    model.precision = "bf16"
    logits = model(inputs_of()).logits
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, plain, rtol=0.1, atol=0.1)
