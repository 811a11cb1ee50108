"""The multimodal classifier: one encoder a modality, and a fusion over their features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor, nn

from drcli.models.backbone import Backbone
from drcli.models.fusion import Fusion

NO_LENGTHS: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gives.

    Attributes:
        features: inputs of the fusion, {m: (B, D_m)}.
        logits: fused logits (B, C).
    """

    features: dict[str, Tensor]
    logits: Tensor


class MultimodalModel(nn.Module):
    """Encoders by modality and a fusion.

    The parameters of a modality are `model.encoders[m].parameters()`, never those whose name contains
    "m"; everything else belongs to the group "fusion".
    """

    def __init__(self, encoders: Mapping[str, Backbone], fusion: Fusion) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the recipe's order."""
        return tuple(self.encoders)

    def encode(self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor] = NO_LENGTHS) -> dict[str, Tensor]:
        """Return the features {m: (B, D_m)} of inputs {m: (B, ...)}.

        Args:
            inputs: one batch of each modality.
            lengths: valid steps {m: (B,)} of sequences, for encoders that take them.
        """
        return {
            m: encoder(inputs[m], lengths.get(m)) if encoder.takes_lengths else encoder(inputs[m])
            for m, encoder in self.encoders.items()
        }

    def forward(self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor] = NO_LENGTHS) -> Outputs:
        """Map inputs {m: (B, ...)} and valid steps {m: (B,)} to features and logits."""
        features = self.encode(inputs, lengths)
        return Outputs(features, self.fusion(features))

    def unimodal_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return each modality's share of the logits, {m: (B, C)}; they add up to the fused logits."""
        return self.fusion.unimodal_logits(features)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by owner: one group a modality's encoder, and "fusion".

        The groups are disjoint and cover the model.
        """
        groups = {m: list(encoder.parameters()) for m, encoder in self.encoders.items()}
        groups["fusion"] = list(self.fusion.parameters())
        return groups
