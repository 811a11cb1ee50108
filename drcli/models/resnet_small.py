"""A residual network small enough to train on a laptop's CPU, for the small datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn

from drcli.models.backbone import Backbone
from drcli.models.blocks import BasicBlock, encode_frames, initialise

STAGES = 3


class ResNetSmall(Backbone):
    """Three stages of one basic block each; `width` channels in the first, doubled twice.

    Args:
        settings: width and stride of the first convolution.
        shape: (C, H, W) or (T, C, H, W).
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of `resnet_small`."""

        width: PositiveInt = Field(16, description="channels of the first stage")
        stem_stride: int = Field(1, ge=1, le=4, description="stride of the first convolution")

    ranks: ClassVar[tuple[int, ...]] = (3, 4)

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
        initialise(self)

    def stages(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, 4 * width, H / 4, W / 4), less the stem's stride."""
        out: Tensor = self.blocks(self.stem(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) or (B, T, C, H, W) to (B, 4 * width)."""
        return encode_frames(self.stages, x)
