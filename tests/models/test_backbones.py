"""Encoders: shapes, frames, and ResNet-18 against torchvision's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from drcli.errors import UsageError
from drcli.models.backbone import Backbone
from drcli.models.resnet import Projection
from drcli.names import BACKBONES

IMAGES = [name for name in BACKBONES.names() if name.startswith("resnet")]  # these fold frames into the batch


def make(name: str, shape: tuple[int, ...]) -> Backbone:
    kind = BACKBONES.load(name)
    torch.manual_seed(0)
    encoder: Backbone = kind(kind.Settings(), shape)
    return encoder


def after_a_few_batches(encoder: Backbone, shape: tuple[int, ...]) -> Backbone:
    """Running statistics that are neither 0 nor 1, in evaluation mode."""
    with torch.no_grad():
        for _ in range(2):
            encoder(torch.randn(4, *shape))
    return encoder.eval()


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("name", IMAGES)
def test_maps_a_batch_to_features(name: str, channels: int) -> None:
    encoder = make(name, (channels, 40, 36))
    assert encoder(torch.randn(3, channels, 40, 36)).shape == (3, encoder.width)
    assert encoder(torch.randn(3, 2, channels, 40, 36)).shape == (3, encoder.width)


@pytest.mark.parametrize("frames", [2, 5])
@pytest.mark.parametrize("name", IMAGES)
def test_equal_frames_are_one_frame(name: str, frames: int) -> None:
    encoder = after_a_few_batches(make(name, (2, 32, 32)), (2, 32, 32))
    one = torch.randn(3, 2, 32, 32)
    with torch.no_grad():
        many = encoder(one[:, None].expand(-1, frames, -1, -1, -1))
        torch.testing.assert_close(many, encoder(one), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", IMAGES)
def test_features_of_frames_are_averaged(name: str) -> None:
    encoder = after_a_few_batches(make(name, (1, 32, 32)), (1, 32, 32))
    clips = torch.randn(2, 3, 1, 32, 32)
    with torch.no_grad():
        by_frame = torch.stack([encoder(clips[:, t]) for t in range(3)])
        torch.testing.assert_close(encoder(clips), by_frame.mean(dim=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(40,), (40, 36), (2, 3, 4, 40, 36)], ids=len)
@pytest.mark.parametrize("name", IMAGES)
def test_a_wrong_rank_is_refused(name: str, shape: tuple[int, ...]) -> None:
    kind = BACKBONES.load(name).__name__
    with pytest.raises(UsageError, match=rf"backbone {kind} takes 3-d or 4-d samples, not shape \({shape[0]}"):
        make(name, shape)


def test_the_small_one_has_three_stages_of_doubling_width() -> None:
    kind = BACKBONES.load("resnet_small")
    encoder = kind(kind.Settings(width=4, stem_stride=2), (1, 32, 32))
    assert encoder.width == 16
    assert encoder.channels == (4, 8, 16)
    hidden = encoder.begin(torch.randn(2, 1, 32, 32))
    for index in range(3):
        hidden = encoder.stage(index, hidden)
    assert hidden.values.shape == (2, 16, 4, 4)
    assert kind(kind.Settings(), (1, 8, 8)).width == 64


def test_weights_start_as_the_authors_do() -> None:
    """Kaiming fan out: variance 2 / (out * k * k); batch normalisation N(1, 0.02) and 0."""
    encoder: Any = make("resnet18", (3, 32, 32))
    conv, bn = encoder.layer4[1].conv1, encoder.layer4[1].bn1
    assert float(conv.weight.detach().std()) == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert float(bn.weight.detach().mean()) == pytest.approx(1.0, abs=0.005)
    assert float(bn.weight.detach().std()) == pytest.approx(0.02, rel=0.2)
    assert float(bn.bias.detach().abs().max()) == 0.0


@pytest.mark.filterwarnings("ignore")  # torchvision's own, at import
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_resnet18_is_torchvisions(channels: int) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    theirs = resnet18(weights=None)
    if channels != 3:
        theirs.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    theirs.fc = nn.Identity()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = make("resnet18", (channels, 64, 48))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, channels, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.train()(x), theirs.train()(x), rtol=1e-4, atol=1e-4)


def gradient_reaches_every_parameter(encoder: Backbone, x: Tensor) -> bool:
    encoder(x).square().sum().backward()
    return all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in encoder.parameters())


@pytest.mark.parametrize("name", IMAGES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    assert gradient_reaches_every_parameter(make(name, (1, 64, 64)), torch.randn(4, 1, 64, 64))


@pytest.mark.parametrize("channels", [1, 3, 7, 8])
def test_a_projection_is_a_strided_convolution_whatever_its_channels(channels: int) -> None:
    """Below 8 channels it is computed another way: there torch's own backward pass corrupts memory on a CPU."""
    torch.manual_seed(0)
    ours = Projection(channels, 5, 1, 2, bias=False).double()
    x = torch.randn(3, channels, 7, 6, dtype=torch.float64, requires_grad=True)
    theirs = functional.conv2d(x, ours.weight, stride=2)
    torch.testing.assert_close(ours(x), theirs)
    wanted = torch.autograd.grad(theirs.square().sum(), [x, ours.weight])
    found = torch.autograd.grad(ours(x).square().sum(), [x, ours.weight])
    torch.testing.assert_close(found, wanted)
