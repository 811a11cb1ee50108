"""Residual networks: ResNet-18 as the audio-visual literature uses it, and one small enough for a laptop's CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from drcli.models.backbone import Backbone, Hidden, Maps

STAGES = 3


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al. 2016), named as in torchvision.

    Args:
        in_channels: channels of the input map.
        out_channels: channels of the output map.
        stride: stride of the first convolution; the shortcut is projected where shapes differ.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                Projection(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(out + shortcut, inplace=True)


class Projection(nn.Conv2d):
    """A 1 x 1 convolution with a stride, safe for few channels.

    torch 2.11 on a CPU writes outside its memory in the backward pass of such a convolution with fewer than 8 input
    channels and a stride, where maps lie in memory channels last. With so few, every stride-th point is taken first,
    and then a convolution without a stride, which is the same function.
    """

    _SAFE = 8

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, H, W) to (B, C_out, H / stride, W / stride)."""
        if self.in_channels >= self._SAFE:
            return super().forward(x)
        rows, columns = self.stride
        return functional.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def initialise(module: nn.Module) -> None:
    """Initialise as the D&R authors' backbone does.

    Convolutions are Kaiming-normal (fan out); the scale of batch normalisation is drawn from
    N(1, 0.02) and its shift is 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)


def fold_frames(x: Tensor, memory_format: torch.memory_format) -> tuple[Tensor, int]:
    """Fold frames into the batch: (B, T, C, H, W) -> (B * T, C, H, W) and T; (B, C, H, W) has T = 1."""
    folded, frames = (x.flatten(0, 1), x.shape[1]) if x.dim() == 5 else (x, 1)
    return folded.contiguous(memory_format=memory_format), frames


class ResNet18(Backbone):
    """ResNet-18 (He et al. 2016) without its pooling and classifier; 512 features.

    The layers carry torchvision's names, so that its weights load. Audio has 1 channel, flow 2, images
    3; frames (B, T, C, H, W) are folded into the batch and their features averaged (Wei et al. 2024).

    Args:
        settings: nothing to set yet.
        shape: (C, H, W) or (T, C, H, W).
    """

    ranks: ClassVar[tuple[int, ...]] = (3, 4)
    width = 512
    channels = (64, 128, 256, 512)
    trunk = ("layer1", "layer2", "layer3", "layer4")

    def __init__(self, settings: BaseModel, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        self.conv1 = nn.Conv2d(shape[-3], 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, stride=1)
        self.layer2 = _stage(64, 128, stride=2)
        self.layer3 = _stage(128, 256, stride=2)
        self.layer4 = _stage(256, 512, stride=2)
        initialise(self)

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Maps:
        """Map (B, C, H, W) or (B, T, C, H, W) to maps of 64 channels and a quarter of the size."""
        folded, frames = fold_frames(x, self.memory_format)
        return Maps(self.maxpool(self.relu(self.bn1(self.conv1(folded)))), frames)

    def stage(self, index: int, hidden: Hidden) -> Maps:
        """Run layer1 ... layer4: 64, 128, 256, 512 channels, the size halved by all but the first."""
        assert isinstance(hidden, Maps)
        layer = (self.layer1, self.layer2, self.layer3, self.layer4)[index]
        return Maps(layer(hidden.values), hidden.frames)

    def end(self, hidden: Hidden) -> Tensor:
        """Average over space and frames to (B, 512)."""
        return hidden.mean()


def _stage(in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, BasicBlock(out_channels, out_channels, 1))


class ResNetSmall(Backbone):
    """Three stages of one basic block each; `width` channels in the first, doubled twice.

    Args:
        settings: width and stride of the first convolution.
        shape: (C, H, W) or (T, C, H, W).
    """

    class Settings(Backbone.Settings):
        """The recipe block of `resnet_small`."""

        width: PositiveInt = Field(
            16, le=4096, description="channels of the first stage; each later stage has twice as many"
        )
        stem_stride: int = Field(1, ge=1, le=4, description="stride of the first convolution")

    ranks: ClassVar[tuple[int, ...]] = (3, 4)
    trunk = ("blocks",)

    def __init__(self, settings: Settings, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        widths = [settings.width * 2**i for i in range(STAGES)]
        self.stem = nn.Sequential(
            nn.Conv2d(shape[-3], widths[0], 3, settings.stem_stride, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.blocks = nn.Sequential(
            BasicBlock(widths[0], widths[0], 1),
            *(BasicBlock(widths[i], widths[i + 1], 2) for i in range(STAGES - 1)),
        )
        self.width = widths[-1]
        self.channels = tuple(widths)
        initialise(self)

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Maps:
        """Map (B, C, H, W) or (B, T, C, H, W) to maps of `width` channels, divided by the stem's stride."""
        folded, frames = fold_frames(x, self.memory_format)
        return Maps(self.stem(folded), frames)

    def stage(self, index: int, hidden: Hidden) -> Maps:
        """Run one block; all but the first double the channels and halve the size."""
        assert isinstance(hidden, Maps)
        return Maps(self.blocks[index](hidden.values), hidden.frames)

    def end(self, hidden: Hidden) -> Tensor:
        """Average over space and frames to (B, 4 * width)."""
        return hidden.mean()
