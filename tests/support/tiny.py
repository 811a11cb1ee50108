"""An encoder of a few hundred weights, for tests in which the method matters and the encoder does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from drcli.models.backbone import Backbone, Hidden, Maps


class Tiny(Backbone):
    """One convolution with batch normalisation, then three stages of one linear layer on the channels.

    It has what methods and fusions look for: a weight of four dimensions, matrices, biases, running statistics,
    stages whose numbers of channels differ. Its maps are a quarter of the input's height and width.
    """

    ranks: ClassVar[tuple[int, ...]] = (3,)
    width = 8
    channels = (4, 6, 8)

    def __init__(self, settings: BaseModel, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        self.stem = nn.Conv2d(shape[0], 4, 4, stride=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip((4, 4, 6), self.channels, strict=True))

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Maps:
        """Map (B, C, H, W) to (B, 4, H / 4, W / 4)."""
        return Maps(torch.relu(self.norm(self.stem(x))))

    def stage(self, index: int, hidden: Hidden) -> Maps:
        """Map the channels of each point by a linear layer."""
        assert isinstance(hidden, Maps)
        return Maps(torch.relu(self.layers[index](hidden.values.movedim(1, 3))).movedim(3, 1))

    def end(self, hidden: Hidden) -> Tensor:
        """Average over the points to (B, 8)."""
        return hidden.mean()
