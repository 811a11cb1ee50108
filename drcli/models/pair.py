"""What the late fusions of exactly two modalities share: one of the two acts upon the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import BaseModel

from drcli.models.fusion import Encoders, Fusion
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
            yield f"fusion.{cls.role}", f"is no modality of this model; {known(named, encoders)}"
