"""What methods need that look at one modality through the fusion: that encoders do not exchange anything before it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from drcli.models.fusion import Additive, Fusion
from drcli.names import FUSIONS
from drcli.recipe.schema import Recipe


def not_late(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what is wrong if the fusion exchanges between encoders, so that features are not those of one modality."""
    return _other_than(recipe, is_late, "a late fusion")


def not_additive(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield what is wrong if the fused logits are not a sum over modalities, each through a weight of its own."""
    return _other_than(recipe, is_additive, "an additive fusion")


def _other_than(recipe: Recipe, fits: Callable[[str], bool], kind: str) -> Iterator[tuple[str, str]]:
    if not fits(recipe.fusion.name):
        able = " or ".join(name for name in FUSIONS.names() if fits(name))
        yield "fusion.name", f"must be {able} for {recipe.methods[recipe.method].method}: {kind}"


def is_late(name: str) -> bool:
    """Whether a fusion leaves each encoder to its own input and maps features to logits."""
    fusion = FUSIONS.load(name)
    return bool(fusion.encode is Fusion.encode and fusion.run is Fusion.run)


def without(features: Mapping[str, Tensor], absent: str) -> dict[str, Tensor]:
    """Return features {m: (B, D_m)} with those of one modality set to 0."""
    return {m: torch.zeros_like(x) if m == absent else x for m, x in features.items()}


def is_additive(name: str) -> bool:
    """Whether a fusion's logits are a sum over modalities."""
    return issubclass(FUSIONS.load(name), Additive)
