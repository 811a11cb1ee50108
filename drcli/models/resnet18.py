"""ResNet-18 as the audio-visual literature uses it: no classifier, any number of input channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel
from torch import Tensor, nn

from drcli.models.backbone import Backbone
from drcli.models.blocks import BasicBlock, fold_frames, initialise
from drcli.models.hidden import Hidden, Maps


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
