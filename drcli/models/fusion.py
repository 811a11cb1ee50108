"""Late fusion: from the modalities' features to logits, and back to each modality's share of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

Features = Mapping[str, Tensor]


class Fusion(nn.Module):
    """Base of the fusions: features {m: (B, D_m)} -> logits (B, C).

    Args:
        settings: the recipe's `fusion` block, without its name.
        widths: D_m by modality, in the recipe's order.
        num_classes: C.
    """

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe block of this fusion."""

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.widths = dict(widths)
        self.num_classes = num_classes

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        raise AssertionError(f"{type(self).__name__} does not define forward")

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        """Return each modality's share of the logits, {m: (B, C)}; the shares add up to the logits."""
        raise AssertionError(f"{type(self).__name__} does not define unimodal_logits")


class Concat(Fusion):
    """z = W [h_1; ...; h_M] + b, one linear layer on the concatenation."""

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.linear = nn.Linear(sum(widths.values()), num_classes)

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        joined = torch.cat([features[m] for m in self.widths], dim=1)
        logits: Tensor = self.linear(joined)
        return logits

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        """Return the sliced logits z_m = W[:, slice_m] h_m + b / M, {m: (B, C)} (Peng et al. 2022)."""
        slices = torch.split(self.linear.weight, list(self.widths.values()), dim=1)
        bias = self.linear.bias / len(self.widths)
        return {m: functional.linear(features[m], weight, bias) for m, weight in zip(self.widths, slices, strict=True)}


class Sum(Fusion):
    """z = sum over m of (W_m h_m + b_m), one linear layer a modality."""

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.linears = nn.ModuleDict({m: nn.Linear(width, num_classes) for m, width in widths.items()})

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        return torch.stack(list(self.unimodal_logits(features).values())).sum(dim=0)

    def unimodal_logits(self, features: Features) -> dict[str, Tensor]:
        """Return z_m = W_m h_m + b_m, {m: (B, C)}."""
        return {m: linear(features[m]) for m, linear in self.linears.items()}
