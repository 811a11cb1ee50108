"""A residual network small enough to train on a laptop's CPU, for the small datasets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn

from drcli.models.backbone import Backbone
from drcli.models.blocks import BasicBlock, fold_frames, initialise
from drcli.models.hidden import Hidden, Maps

STAGES = 3


class ResNetSmall(Backbone):
    """Three stages of one basic block each; `width` channels in the first, doubled twice.

    Args:
        settings: width and stride of the first convolution.
        shape: (C, H, W) or (T, C, H, W).
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of `resnet_small`."""

        width: PositiveInt = Field(
            16, le=4096, description="channels of the first stage; each later stage has twice as many"
        )
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
