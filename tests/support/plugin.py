"""A method and a fusion of another package: what is imported is promised to stay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from drcli.api import Batch, Context, Features, Fusion, Losses, Method, Outputs, Settings


class Louder(Method):
    """Joint training on a multiple of its loss."""

    class Settings(Method.Settings):
        factor: PositiveFloat = Field(1.0, description="of the loss")

    neutral: ClassVar[Mapping[str, Any] | None] = {"factor": 1.0}

    settings: Settings

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        return {"louder": self.settings.factor * super().losses(ctx, outputs, batch)["joint"]}


class Added(Fusion):
    """One linear layer per modality, logits added."""

    def __init__(self, settings: Settings, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.layers = nn.ModuleDict({m: nn.Linear(width, num_classes) for m, width in widths.items()})

    def forward(self, features: Features) -> Tensor:
        return torch.stack([layer(features[m]) for m, layer in self.layers.items()]).sum(dim=0)
