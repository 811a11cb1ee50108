"""What methods need that look at one modality through the fusion: that encoders do not exchange anything before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from drcli.models.fusion import Additive, Fusion
from drcli.names import FUSIONS
from drcli.recipe.schema import Recipe


def not_late(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what is wrong if the fusion exchanges between encoders, so that features are not those of one modality."""
    if not is_late(recipe.fusion.name):
        able = [name for name in FUSIONS.names() if is_late(name)]
        yield "fusion.name", f"must be {' or '.join(able)} for {recipe.methods[recipe.method].method}: a late fusion"


def is_late(name: str) -> bool:
    """Whether a fusion leaves each encoder to its own input and maps features to logits."""
    fusion = FUSIONS.load(name)
    return bool(fusion.encode is Fusion.encode and fusion.run is Fusion.run)


def without(features: Mapping[str, Tensor], absent: str) -> dict[str, Tensor]:
    """Return features {m: (B, D_m)} with those of one modality set to 0."""
    return {m: torch.zeros_like(x) if m == absent else x for m, x in features.items()}


def not_additive(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what is wrong if the fused logits are not a sum over modalities, each through a weight of its own."""
    if not is_additive(recipe.fusion.name):
        able = [name for name in FUSIONS.names() if is_additive(name)]
        yield (
            "fusion.name",
            f"must be {' or '.join(able)} for {recipe.methods[recipe.method].method}: an additive fusion",
        )


def is_additive(name: str) -> bool:
    """Whether a fusion's logits are a sum over modalities."""
    return issubclass(FUSIONS.load(name), Additive)
