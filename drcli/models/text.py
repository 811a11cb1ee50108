"""Encoders of texts, whose samples are token ids (L,) with a number of valid ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from drcli.models.backbone import Backbone, Tokens
from drcli.models.transformer import Dropout, Transformer, pool_steps


def padding_of(ids: Tensor, lengths: Tensor | None) -> Tensor:
    """Return which of the ids (B, L) are padding, bool; none where no lengths (B,) are given."""
    steps = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
    return torch.zeros_like(steps, dtype=torch.bool) if lengths is None else steps >= lengths[:, None]


class TokenTransformer(Transformer):
    """The encoder layers of `transformer` over learned embeddings: h_t = E[x_t] + PE(t).

    Embeddings begin as standard normal numbers. Which id fills the padding has no influence.

    Args:
        settings: as those of `transformer`, the mean of the valid steps by default.
        shape: (L,).
        vocabulary: number of token ids.
    """

    class Settings(Transformer.Settings):
        """The recipe block of `token_transformer`."""

        pooling: Literal["last", "mean"] = Field(
            "mean", description="features of a sample; last: its last token; mean: the mean of its tokens"
        )

    ranks: ClassVar[tuple[int, ...]] = (1,)
    takes_tokens: ClassVar[bool] = True

    def __init__(self, settings: Settings, shape: Sequence[int], vocabulary: int) -> None:
        super().__init__(settings, shape)
        self.project = nn.Embedding(vocabulary, settings.dim)

    @classmethod
    def from_tokens(cls, settings: Settings, shape: Sequence[int], vocabulary: int) -> Self:
        """Build for token ids (L,) from 0 to `vocabulary` - 1."""
        return cls(settings, shape, vocabulary)

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Embed token ids (B, L) to (B, L, dim) and add the positions.

        Args:
            x: token ids, padded at the end; what is in the padding has no influence.
            lengths: (B,) valid ones of each, 0 ... L; None: all are valid. Without any, features are 0.
        """
        return Tokens(self._placed(self.project(x)), padding_of(x, lengths))


class TokenBag(Backbone):
    """h = dropout(mean of E[x_t] over the tokens of a text), 0 of a text without any.

    Args:
        settings: width and dropout.
        shape: (L,).
        vocabulary: number of token ids.
    """

    class Settings(Backbone.Settings):
        """The recipe block of `token_bag`."""

        dim: PositiveInt = Field(64, le=65_536, description="width of the embeddings and of the features")
        dropout: Dropout = 0.0

    ranks: ClassVar[tuple[int, ...]] = (1,)
    takes_lengths: ClassVar[bool] = True
    takes_tokens: ClassVar[bool] = True

    def __init__(self, settings: Settings, shape: Sequence[int], vocabulary: int) -> None:
        super().__init__(settings, shape)
        self.width = settings.dim
        self.embeddings = nn.Embedding(vocabulary, settings.dim)
        self.dropout = nn.Dropout(settings.dropout)

    @classmethod
    def from_tokens(cls, settings: Settings, shape: Sequence[int], vocabulary: int) -> Self:
        """Build for token ids (L,) from 0 to `vocabulary` - 1."""
        return cls(settings, shape, vocabulary)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map token ids (B, L), of which (B,) are valid, to features (B, dim)."""
        valid = (~padding_of(x, lengths)).sum(dim=1)
        pooled: Tensor = self.dropout(pool_steps(self.embeddings(x), valid, "mean"))
        return pooled
