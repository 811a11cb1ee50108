"""What an encoder is: a module from one modality's input to a vector per sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import BaseModel
from torch import Tensor, nn

from drcli.errors import UsageError


class Backbone(nn.Module):
    """An encoder of one modality; every backbone derives from it.

    Attributes:
        width: number of features D.

    Args:
        settings: the modality's block of the recipe, without `backbone`.
        shape: shape of one input sample, without the batch dimension.
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of this backbone."""

    ranks: ClassVar[tuple[int, ...]]
    """Ranks of input samples that this backbone takes."""

    width: int

    def __init__(self, settings: BaseModel, shape: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        if len(shape) not in self.ranks:
            wanted = " or ".join(f"{rank}-d" for rank in self.ranks)
            raise UsageError(f"backbone {type(self).__name__} takes {wanted} samples, not shape {tuple(shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Map a batch (B, *shape) to features (B, width)."""
        raise AssertionError(f"{type(self).__name__} does not define forward")
