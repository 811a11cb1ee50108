"""Linear heads, one per modality, for the methods that let every encoder classify by itself."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from drcli.models.multimodal import MultimodalModel


def linear_heads(model: MultimodalModel) -> nn.ModuleDict:
    """Return one new linear layer per modality, from its encoder's features (B, D_m) to logits (B, C)."""
    fusion = model.fusion
    return nn.ModuleDict({m: nn.Linear(width, fusion.num_classes) for m, width in fusion.widths.items()})


def apply_heads(heads: nn.ModuleDict, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the heads' logits {m: (B, C)} of features {m: (B, D_m)}."""
    return {m: heads[m](x) for m, x in features.items()}
