"""A transformer encoder for sequences, after MultiBench's late-fusion model for CMU-MOSI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from drcli.models.backbone import Backbone
from drcli.models.hidden import Hidden, Tokens


class Transformer(Backbone):
    """A linear projection of each step, then `layers` encoder layers, then one step or the mean.

    After Liang et al. 2021, "MultiBench" (arXiv 2107.07502). Deviations from its code: padding is masked,
    steps have positions (`positional: none` leaves them out), and `pooling: last` takes the last valid step
    where MultiBench takes the last, which may be padding.

    Args:
        settings: sizes, positions and pooling.
        shape: (L, D).
    """

    class Settings(Backbone.Settings):
        """The recipe block of `transformer`."""

        dim: PositiveInt = Field(
            40, le=65_536, description="width of the steps and of the features; a multiple of heads"
        )
        heads: PositiveInt = Field(5, le=4096, description="attention heads")
        layers: PositiveInt = Field(4, le=1024, description="number of layers")
        feedforward: PositiveInt = Field(2048, le=1_000_000, description="width of the feed-forward layers")
        dropout: float = Field(
            0.1, ge=0, lt=1, description="probability with which an activation is set to 0 in training"
        )
        positional: Literal["sinusoidal", "none"] = Field(
            "sinusoidal", description="encoding of the position of a step"
        )
        pooling: Literal["last", "mean"] = Field(
            "last", description="features of a sample; last: its last valid step; mean: the mean of its valid steps"
        )

        @model_validator(mode="after")
        def _divides(self) -> Self:
            if self.dim % self.heads:
                raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
            return self

    settings: Settings

    hidden: ClassVar[type[Hidden]] = Tokens
    ranks: ClassVar[tuple[int, ...]] = (2,)
    takes_lengths: ClassVar[bool] = True

    def __init__(self, settings: Settings, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        self.project = nn.Linear(shape[1], settings.dim, bias=False)
        layer = nn.TransformerEncoderLayer(
            settings.dim, settings.heads, settings.feedforward, settings.dropout, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.width = settings.dim
        self.channels = (settings.dim,) * settings.layers

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Project (B, L, D) to (B, L, dim) and add the positions.

        Args:
            x: sequences, padded at the end; what is in the padding has no influence.
            lengths: (B,) valid steps of each, 0 ... L; None: all are valid. Without any, features are 0.
        """
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        hidden = self.project(x.masked_fill(padding[:, :, None], 0))
        if self.settings.positional == "sinusoidal":
            hidden = hidden + sinusoids(x.shape[1], self.width, hidden.device).to(hidden.dtype)
        return Tokens(hidden, padding)

    def stage(self, index: int, hidden: Hidden) -> Tokens:
        """Run one encoder layer over (B, L, dim)."""
        assert isinstance(hidden, Tokens)
        mask = hidden.padding
        if mask is not None:
            mask = mask.clone()
            mask[:, 0] = False  # a sequence without valid steps attends to its first: softmax over nothing is NaN
        return Tokens(self.layers.layers[index](hidden.values, src_key_padding_mask=mask), hidden.padding)

    def end(self, hidden: Hidden) -> Tensor:
        """Reduce (B, L, dim) to (B, dim): the last valid step or the mean; 0 where there is none."""
        assert isinstance(hidden, Tokens)
        return pool_steps(hidden.values, hidden.lengths(), self.settings.pooling)


def sinusoids(num_steps: int, width: int, device: torch.device | None = None) -> Tensor:
    """Positional encodings (L, D) after Vaswani et al. 2017, section 3.5: sine in even places, cosine in odd.

    PE(t, 2i) = sin(t / 10000^(2i / D)), PE(t, 2i + 1) = cos(t / 10000^(2i / D))
    """
    places = torch.arange(width, device=device)
    rates = torch.exp(-math.log(10000.0) * (places - places % 2) / width)
    angles = torch.arange(num_steps, device=device)[:, None] * rates
    return torch.where(places % 2 == 0, angles.sin(), angles.cos())


def pool_steps(hidden: Tensor, lengths: Tensor, pooling: str) -> Tensor:
    """Reduce (B, L, D) to (B, D): the last valid step or the mean of all; 0 where there is none.

    Args:
        hidden: one vector per step.
        lengths: (B,) valid steps, 0 ... L.
        pooling: "last" or "mean".
    """
    steps = torch.arange(hidden.shape[1], device=hidden.device)
    wanted = steps < lengths[:, None]
    if pooling == "last":
        wanted = steps == lengths[:, None] - 1
    weights = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("bl,bld->bd", weights.to(hidden.dtype), hidden)
