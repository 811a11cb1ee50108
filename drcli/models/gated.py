"""Gated fusion: one modality decides how much of the other passes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn

from drcli.models.fusion import Features
from drcli.models.pair import Pair


class Gated(Pair):
    """Gated late fusion (Kiela et al. 2018, arXiv 1802.02892) of two modalities' features.

        u = A h_g + a                    g: the gate, o: the other modality; u and v are (B, width)
        v = V h_o + c
        z = W (sigmoid(u) * v) + b

    The features that methods and diagnosis see are h_g and h_o. Difference from the code of the
    balanced-learning literature: that returns u and v in their place.
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of `gated`."""

        gate: str | None = Field(None, description="modality that gates the other one; null: the first of the recipe")
        width: PositiveInt | None = Field(
            None, le=65_536, description="width to which both features are mapped; null: that of the narrower one"
        )

    role: ClassVar[str] = "gate"

    settings: Settings

    def __init__(self, settings: Settings, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        width = settings.width or min(widths.values())
        self.opening = nn.Linear(widths[self.acting], width)
        self.value = nn.Linear(widths[self.other], width)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        opening = self.opening(features[self.acting]).sigmoid()
        logits: Tensor = self.linear(opening * self.value(features[self.other]))
        return logits
