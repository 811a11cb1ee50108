"""What intermediate fusions ask of the encoders that they run stage by stage."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from drcli.errors import UsageError
from drcli.models.fusion import Encoders, Features
from drcli.models.hidden import Hidden


def num_stages(fusion: str, encoders: Encoders) -> int:
    """Return how many stages the encoders have, each as many as the others.

    Args:
        fusion: name of the fusion that wants to know.
        encoders: by modality.

    Raises:
        UsageError: an encoder has no stages, or another number of them.
    """
    counts = {m: len(encoder.channels) for m, encoder in encoders.items()}
    found = ", ".join(f"modalities.{m}: {type(encoders[m]).__name__} has {count}" for m, count in counts.items())
    if 0 in counts.values():
        raise UsageError(
            f"fusion {fusion} works between stages ({found}); choose backbones with stages, or fusion=concat"
        )
    if len(set(counts.values())) > 1:
        raise UsageError(f"fusion {fusion} needs equal numbers of stages ({found}); choose such backbones")
    return next(iter(counts.values()))


def begin(encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Hidden]:
    """Return what each encoder's first stage takes."""
    return {m: encoder.begin(inputs[m], lengths.get(m)) for m, encoder in encoders.items()}


def end(encoders: Encoders, hidden: Mapping[str, Hidden]) -> dict[str, Tensor]:
    """Return the features {m: (B, D_m)} after each encoder's last stage."""
    return {m: encoder.end(hidden[m]) for m, encoder in encoders.items()}
