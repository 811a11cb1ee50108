"""What intermediate fusions ask of the encoders that they run stage by stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from drcli.models.fusion import Encoders, Features
from drcli.models.hidden import Hidden


def num_stages(encoders: Encoders) -> int:
    """Return how many stages the encoders have, where `unequal_stages` has found nothing."""
    return len(next(iter(encoders.values())).channels)


def unequal_stages(fusion: str, encoders: Encoders) -> Iterator[tuple[str, str]]:
    """Yield the backbones without stages, or else the first whose number of stages is not that of the others.

    Args:
        fusion: name of the fusion that works between stages.
        encoders: by modality.
    """
    counts = {m: len(encoder.channels) for m, encoder in encoders.items()}
    if 0 in counts.values():
        for m in (m for m, count in counts.items() if count == 0):
            yield backbone_key(m), f"has no stages, between which fusion {fusion} works; use another, or fusion=concat"
        return
    first, *others = counts
    for m in (m for m in others if counts[m] != counts[first]):
        yield (
            backbone_key(m),
            f"has {counts[m]} stages and that of {first} has {counts[first]}: fusion {fusion} needs equal numbers",
        )
        return


def backbone_key(modality: str) -> str:
    """Return the key of a recipe that names a modality's backbone."""
    return f"modalities.{modality}.backbone"


def begin(encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Hidden]:
    """Return what each encoder's first stage takes."""
    return {m: encoder.begin(inputs[m], lengths.get(m)) for m, encoder in encoders.items()}


def end(encoders: Encoders, hidden: Mapping[str, Hidden]) -> dict[str, Tensor]:
    """Return the features {m: (B, D_m)} after each encoder's last stage."""
    return {m: encoder.end(hidden[m]) for m, encoder in encoders.items()}
