"""A sum of modalities through one shared head, times a rate: what ReconBoost trains and predicts with."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from drcli.methods.parts.shared_head import shared_width
from drcli.methods.parts.weighted import without_absent
from drcli.models.multimodal import MultimodalModel
from drcli.models.presence import ALL_PRESENT


class Boosted(nn.Module):
    """f = rate * sum over the modalities that have joined of head(h_m); 0 before the first has.

    Args:
        model: over encoders of equal width D.
        hidden: width of the head's hidden layer; 0: one linear layer.
        rate: the boosting rate to start with, a parameter.
    """

    def __init__(self, model: MultimodalModel, hidden: int, rate: float) -> None:
        super().__init__()
        width, classes = shared_width(model), model.fusion.num_classes
        inner = [nn.Linear(width, hidden), nn.ReLU()] if hidden else []
        self.head = nn.Sequential(*inner, nn.Linear(hidden or width, classes))
        self.rate = nn.Parameter(torch.tensor(rate))
        for m in model.modalities:
            self.register_buffer(f"joined_{m}", torch.zeros(()))  # kept where predictions find it: with the weights

    def join(self, modality: str) -> None:
        """Let a modality take part, if it does not yet."""
        self.get_buffer(f"joined_{modality}").fill_(1.0)

    def forward(
        self,
        features: Mapping[str, Tensor],
        without: Collection[str] = (),
        present: Mapping[str, Tensor] = ALL_PRESENT,
    ) -> Tensor:
        """Return f (B, C) of features {m: (B, D)}, without some modalities and what rows lack (`Batch.present`)."""
        counts = {m: 0.0 if m in without else self.get_buffer(f"joined_{m}") for m in features}
        terms = without_absent({m: counts[m] * self.head(x) for m, x in features.items()}, present)
        return self.rate * torch.stack(list(terms.values())).sum(dim=0)
