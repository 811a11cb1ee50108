"""The residual block and the pooling that both residual networks are made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def pool(maps: Tensor, frames: int) -> Tensor:
    """Average (B * T, D, H, W) over space and frames to (B, D)."""
    pooled = maps.mean(dim=(2, 3))
    return pooled.reshape(-1, frames, pooled.shape[1]).mean(dim=1) if frames > 1 else pooled
