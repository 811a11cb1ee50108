"""What a unimodal run has learnt, for the methods that start from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from drcli.models.fusion import Additive
from drcli.models.multimodal import MultimodalModel

TEACHERS = "teachers"
"""What a method names in `requires` to have one unimodal run a modality trained before it."""


@dataclass(frozen=True)
class Teacher:
    """The selected epoch of a unimodal run.

    Attributes:
        encoder: state of its encoder.
        head: weight (C, D) and bias (C,) of its linear head.
    """

    encoder: Mapping[str, Tensor]
    head: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: MultimodalModel) -> Teacher:
        """Take encoder and head of a unimodal run's model."""
        (modality,) = model.modalities
        assert isinstance(model.fusion, Additive)
        linear = next(layer for layer in model.fusion.modules() if isinstance(layer, nn.Linear))
        return cls(model.encoders[modality].state_dict(), linear.state_dict())
