"""Feature-wise linear modulation: one modality scales and shifts the other's features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, Field
from torch import Tensor, nn

from drcli.models.fusion import Features
from drcli.models.pair import Pair


class Film(Pair):
    """FiLM (Perez et al. 2018, arXiv 1709.07871) of two modalities' features.

        (gamma, beta) = split(V h_c + a)          c: the conditioner; V is (2 D_o, D_c)
        z = W (gamma * h_o + beta) + b            o: the other modality

    The features that methods and diagnosis see are h_c and h_o, and not what FiLM makes of them.
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of `film`."""

        conditioner: str | None = Field(
            None, description="modality that scales and shifts the other one; null: the first of the recipe"
        )

    role: ClassVar[str] = "conditioner"

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.modulation = nn.Linear(widths[self.acting], 2 * widths[self.other])
        self.linear = nn.Linear(widths[self.other], num_classes)

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        gamma, beta = self.modulation(features[self.acting]).chunk(2, dim=1)
        logits: Tensor = self.linear(gamma * features[self.other] + beta)
        return logits
