"""A transformer over one token per modality: a plain late fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from drcli.models.fusion import Features, Fusion
from drcli.models.presence import weights_of
from drcli.models.transformer import EPSILON, SPREAD, Dropout, Feedforward, Heads, Layers, with_even_heads


class LateTransformer(Fusion):
    """SimBaMM's late fusion (Rheude, Eils, Wild 2025, arXiv 2512.22991): a token per modality, one shared transformer.

        t_m = P_m h_m + p_m + e_m                    (B, dim); e_m: what tells the modalities apart, from N(0, 0.02)
        [c; t_1; ...; t_M] through `layers` pre-norm layers;  z = W norm(c') + b

    c is a learned token, from 0, and c' what the layers make of it. Any number of modalities; their order does not
    matter. A row that lacks a modality has no token of it. The paper tunes the sizes for every dataset; the defaults
    are ours. All of it belongs to the fusion.
    """

    class Settings(Fusion.Settings):
        """The recipe block of `late_transformer`."""

        dim: PositiveInt = Field(64, le=65_536, description="width of the tokens; a multiple of heads")
        heads: Heads = 4
        layers: Layers = 2
        feedforward: Feedforward = 128
        dropout: Dropout = 0.1

        _divides = model_validator(mode="after")(with_even_heads)

    leaves_out: ClassVar[bool] = True

    settings: Settings

    def __init__(self, settings: Settings, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        dim = settings.dim
        self.projections = nn.ModuleDict({m: nn.Linear(width, dim) for m, width in widths.items()})
        self.embeddings = nn.ParameterDict({m: nn.Parameter(SPREAD * torch.randn(dim)) for m in widths})
        self.token = nn.Parameter(torch.zeros(dim))
        layer = nn.TransformerEncoderLayer(
            dim, settings.heads, settings.feedforward, settings.dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.linear = nn.Linear(dim, num_classes)

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        tokens = [self.projections[m](features[m]) + self.embeddings[m] for m in self.widths]
        first = self.token.expand_as(tokens[0])
        hidden = self.layers(torch.stack([first, *tokens], dim=1), src_key_padding_mask=self._padding(first))
        logits: Tensor = self.linear(self.norm(hidden[:, 0]))
        return logits

    def _padding(self, like: Tensor) -> Tensor | None:
        """Return which tokens (B, 1 + M) a row lacks; None where every row has all."""
        if not self.present:
            return None
        lacking = weights_of(self.present, self.widths, like) == 0
        return torch.cat([torch.zeros_like(lacking[:1]), lacking]).T
