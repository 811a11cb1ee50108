"""The multimodal classifier: one encoder per modality, and a fusion over them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Literal, cast

import torch
from torch import Tensor, nn

from drcli.models.backbone import Backbone
from drcli.models.fusion import Decomposition, Encoders, Fusion, Outputs, encode_alone

NO_LENGTHS: Mapping[str, Tensor] = MappingProxyType({})

Precision = Literal["auto", "fp32", "bf16"]


class MultimodalModel(nn.Module):
    """Encoders by modality and a fusion.

    The parameters of a modality are `model.encoders[m].parameters()`, never those whose name contains
    "m"; everything else belongs to the group "fusion".

    Args:
        encoders: the encoders, in the recipe's order.
        fusion: what joins them.
        precision: "bf16" runs encoders and fusion under autocast, "auto" does so on a GPU; what comes out is
            float32 either way.
    """

    def __init__(self, encoders: Mapping[str, Backbone], fusion: Fusion, precision: Precision = "fp32") -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.precision = precision

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
        with self._casting(inputs):
            features = self.fusion.encode(self._backbones(), inputs, lengths)
        return {m: x.float() for m, x in features.items()}

    def encode_alone(
        self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor] = NO_LENGTHS
    ) -> dict[str, Tensor]:
        """Return the features {m: (B, D_m)} of each encoder by itself, whatever the fusion would exchange."""
        with self._casting(inputs):
            features = {m: encode_alone(encoder, inputs[m], lengths.get(m)) for m, encoder in self._backbones().items()}
        return {m: x.float() for m, x in features.items()}

    def forward(self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor] = NO_LENGTHS) -> Outputs:
        """Map inputs {m: (B, ...)} and valid steps {m: (B,)} to features and logits."""
        with self._casting(inputs):
            outputs = self.fusion.run(self._backbones(), inputs, lengths)
        return Outputs({m: x.float() for m, x in outputs.features.items()}, outputs.logits.float())

    def unimodal_logits(self, features: Mapping[str, Tensor], how: Decomposition) -> dict[str, Tensor]:
        """Return logits of each modality alone, {m: (B, C)}; see `Fusion.unimodal_logits`."""
        return self.fusion.unimodal_logits(features, how)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by owner: one group per encoder, and "fusion".

        The groups are disjoint and cover the model.
        """
        groups = {m: list(encoder.parameters()) for m, encoder in self.encoders.items()}
        groups["fusion"] = list(self.fusion.parameters())
        return groups

    def _backbones(self) -> Encoders:
        return {m: cast("Backbone", encoder) for m, encoder in self.encoders.items()}

    def _casting(self, inputs: Mapping[str, Tensor]) -> AbstractContextManager[object]:
        device = next(iter(inputs.values())).device.type
        if self.precision == "bf16" or (self.precision == "auto" and device == "cuda"):
            return torch.autocast(device, torch.bfloat16)
        return nullcontext()
