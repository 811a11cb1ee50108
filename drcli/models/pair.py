"""The late fusions of exactly two modalities, in which one of the two acts upon the other: FiLM and gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import BaseModel, Field, PositiveInt
from torch import Tensor, nn

from drcli.models.fusion import Encoders, Features, Fusion
from drcli.registry import known


class Pair(Fusion):
    """Base of the fusions in which one modality acts upon the other.

    Attributes:
        acting: the modality that acts.
        other: the one that is acted upon.
    """

    num_modalities: ClassVar[tuple[int, int | None]] = (2, 2)

    role: ClassVar[str]
    """The setting that names the acting modality; where it is None, the recipe's first acts."""

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.acting = getattr(settings, self.role) or next(iter(widths))
        (self.other,) = (m for m in widths if m != self.acting)

    @classmethod
    def check(cls, settings: BaseModel, encoders: Encoders) -> Iterator[tuple[str, str]]:
        """Refuse an acting modality that the model does not have."""
        named = getattr(settings, cls.role)
        if named is not None and named not in encoders:
            yield f"fusion.{cls.role}", f"is not a modality of this model; {known(named, encoders)}"


class Film(Pair):
    """FiLM (Perez et al. 2018, arXiv 1709.07871) of two modalities' features.

        (gamma, beta) = split(V h_c + a)          c: the conditioner; V is (2 D_o, D_c)
        z = W (gamma * h_o + beta) + b            o: the other modality

    The features that methods and diagnosis see are h_c and h_o, and not what FiLM makes of them.
    """

    class Settings(Pair.Settings):
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


class Gated(Pair):
    """Gated late fusion (Kiela et al. 2018, arXiv 1802.02892) of two modalities' features.

        u = A h_g + a                    g: the gate, o: the other modality; u and v are (B, width)
        v = V h_o + c
        z = W (sigmoid(u) * v) + b

    The features that methods and diagnosis see are h_g and h_o. Difference from the code of the
    balanced-learning literature: that returns u and v in their place.
    """

    class Settings(Pair.Settings):
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
