"""One head that all modalities share: their features must be equally wide."""

from __future__ import annotations

from collections.abc import Iterator

from drcli.models.fusion import backbone_key
from drcli.models.multimodal import MultimodalModel
from drcli.recipe.conflicts import sketches
from drcli.recipe.schema import Recipe


def shared_width(model: MultimodalModel) -> int:
    """Return D, the width of every modality's features, where `unequal_widths` has found nothing."""
    return next(iter(model.fusion.widths.values()))


def widths_of(recipe: Recipe) -> dict[str, int]:
    """Return the width of each modality's features, {m: D_m}, of the encoders whose sketches show it."""
    return {m: sketch.width for m, sketch in sketches(recipe).items() if sketch is not None}


def unequal_widths(recipe: Recipe, why: str = "shares one head between the modalities") -> Iterator[tuple[str, str]]:
    """Yield the first backbone that gives features of another width than the first modality's, if there is one.

    Args:
        recipe: of one run.
        why: what the method does that needs equal widths, after its name.
    """
    widths = widths_of(recipe)
    first, *others = widths or {"": 0}
    for m in (m for m in others if widths[m] != widths[first]):
        name = recipe.methods[recipe.method].method
        yield (
            backbone_key(m),
            f"gives {widths[m]} features and that of {first} {widths[first]}: {name} {why}; make the widths equal",
        )
        return
