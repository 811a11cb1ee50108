"""Transformers: an encoder for sequences, and one for the patches of pictures, clips and spectrograms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, Protocol, TypeVar

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional

from drcli.models.backbone import Backbone, Hidden, Tokens

Heads = Annotated[PositiveInt, Field(le=4096, description="attention heads")]
Layers = Annotated[PositiveInt, Field(le=1024, description="number of layers")]
Feedforward = Annotated[PositiveInt, Field(le=1_000_000, description="width of the feed-forward layers")]
Dropout = Annotated[
    float, Field(ge=0, lt=1, description="probability with which an activation is set to 0 in training")
]

SPREAD = 0.02  # standard deviation of the initial positions
EPSILON = 1e-6  # of the layer normalisations


class _Headed(Protocol):
    dim: int
    heads: int


Headed = TypeVar("Headed", bound=_Headed)


def with_even_heads(settings: Headed) -> Headed:
    """Refuse a width that attention heads cannot share evenly: what settings with `dim` and `heads` are validated by.

    Raises:
        ValueError: it is no multiple of their number.
    """
    if settings.dim % settings.heads:
        raise ValueError(f"dim {settings.dim} is not a multiple of heads {settings.heads}")
    return settings


class Transformer(Backbone):
    """A linear projection of each step, then `layers` encoder layers, then one step or the mean.

    After Liang et al. 2021, "MultiBench" (arXiv 2107.07502). Deviations from its code: padding is masked,
    steps have positions (`positional: none` leaves them out), and `pooling: last` takes the last valid step
    where MultiBench takes the last, which may be padding.

    Args:
        settings: sizes, positions and pooling.
        shape: (L, D), or (D,), which is a sequence of one step.
    """

    class Settings(Backbone.Settings):
        """The recipe block of `transformer`."""

        dim: PositiveInt = Field(
            40, le=65_536, description="width of the steps and of the features; a multiple of heads"
        )
        heads: Heads = 5
        layers: Layers = 4
        feedforward: Feedforward = 2048
        dropout: Dropout = 0.1
        positional: Literal["sinusoidal", "none"] = Field(
            "sinusoidal", description="encoding of the position of a step"
        )
        pooling: Literal["last", "mean"] = Field(
            "last", description="features of a sample; last: its last valid step; mean: the mean of its valid steps"
        )

        _divides = model_validator(mode="after")(with_even_heads)

    settings: Settings

    hidden: ClassVar[type[Hidden]] = Tokens
    ranks: ClassVar[tuple[int, ...]] = (2, 1)
    takes_lengths: ClassVar[bool] = True
    trunk = ("layers.layers",)

    def __init__(self, settings: Settings, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        self.project: nn.Module = nn.Linear(shape[-1], settings.dim, bias=False)
        layer = nn.TransformerEncoderLayer(
            settings.dim, settings.heads, settings.feedforward, settings.dropout, batch_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.width = settings.dim
        self.channels = (settings.dim,) * settings.layers

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Project (B, L, D) to (B, L, dim) and add the positions; (B, D) is a sequence of one step.

        Args:
            x: sequences, padded at the end; what is in the padding has no influence.
            lengths: (B,) valid steps of each, 0 ... L; None: all are valid. Without any, features are 0.
        """
        if x.dim() == 2:
            x = x[:, None]
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        return Tokens(self._placed(self.project(x.masked_fill(padding[:, :, None], 0))), padding)

    def _placed(self, hidden: Tensor) -> Tensor:
        """Add the positions of the steps of (B, L, dim)."""
        if self.settings.positional == "none":
            return hidden
        return hidden + sinusoids(hidden.shape[1], self.width, hidden.device).to(hidden.dtype)

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


class ViT(Backbone):
    """Square patches, one learned position per patch, `layers` pre-norm blocks, then the CLS token or the mean.

    After Dosovitskiy et al. 2021, "An image is worth 16x16 words" (arXiv 2010.11929), eq. 1 to 4; a
    spectrogram is a picture, as in Gong et al. 2021 (arXiv 2104.01778). The patches of all frames of a
    clip form one sequence. ViT-B/16 is `patch: 16, dim: 768, heads: 12, layers: 12, feedforward: 3072`.

    Args:
        settings: sizes and pooling.
        shape: (C, H, W) or (T, C, H, W); every batch must have it, since each place has its own position.
    """

    class Settings(Backbone.Settings):
        """The recipe block of `vit`."""

        patch: PositiveInt = Field(
            4, le=4096, description="height and width of a patch, in pixels; the last ones are padded with zeros"
        )
        dim: PositiveInt = Field(
            64, le=65_536, description="width of the tokens and of the features; a multiple of heads"
        )
        heads: Heads = 4
        layers: Layers = 4
        feedforward: Feedforward = 128
        dropout: Dropout = 0.1
        pooling: Literal["cls", "mean"] = Field(
            "cls", description="features of a sample; cls: a token added for this; mean: the mean of all tokens"
        )

        _divides = model_validator(mode="after")(with_even_heads)

    settings: Settings

    hidden: ClassVar[type[Hidden]] = Tokens
    ranks: ClassVar[tuple[int, ...]] = (3, 4)
    trunk = ("blocks",)

    def __init__(self, settings: Settings, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        size, dim = settings.patch, settings.dim
        frames = shape[0] if len(shape) == 4 else 1
        rows, columns = (-(-length // size) for length in shape[-2:])  # rounded up
        self.width = dim
        self.channels = (dim,) * settings.layers
        self.patches = nn.Conv2d(shape[-3], dim, size, stride=size)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim)) if settings.pooling == "cls" else None
        tokens = frames * rows * columns + (self.cls is not None)
        self.positions = nn.Parameter(torch.randn(1, tokens, dim).mul_(SPREAD))
        self.dropout = nn.Dropout(settings.dropout)
        self.blocks = nn.ModuleList(
            Block(dim, settings.heads, settings.feedforward, settings.dropout) for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        initialise(self)

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Tokens:
        """Map (B, C, H, W) or (B, T, C, H, W) to tokens (B, N, dim), the CLS token first.

        Rows at the bottom and columns at the right that fill no patch are completed with zeros, which
        in a normalised input are its mean.
        """
        folded = x.flatten(0, 1) if x.dim() == 5 else x
        size = self.settings.patch
        bottom, right = (-length % size for length in folded.shape[-2:])
        patches = self.patches(functional.pad(folded, (0, right, 0, bottom)))  # (B * T, dim, rows, columns)
        tokens = patches.flatten(2).transpose(1, 2).reshape(len(x), -1, self.width)
        if self.cls is not None:
            tokens = torch.cat([self.cls.expand(len(x), -1, -1), tokens], dim=1)
        return Tokens(self.dropout(tokens + self.positions))

    def stage(self, index: int, hidden: Hidden) -> Tokens:
        """Run one block over (B, N, dim)."""
        assert isinstance(hidden, Tokens)
        assert hidden.padding is None
        return Tokens(self.blocks[index](hidden.values))

    def end(self, hidden: Hidden) -> Tensor:
        """Normalise and reduce (B, N, dim) to (B, dim): the CLS token or the mean."""
        assert isinstance(hidden, Tokens)
        values: Tensor = self.norm(hidden.values)
        return values.mean(dim=1) if self.cls is None else values[:, 0]


class Block(nn.Module):
    """x <- x + MHSA(LN(x)), then x <- x + MLP(LN(x)); the MLP has one hidden layer and GELU.

    Args:
        dim: width of the tokens.
        heads: attention heads; each takes dim / heads.
        feedforward: width of the hidden layer.
        dropout: of what attention and MLP return, and of the hidden layer.
    """

    def __init__(self, dim: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(dim, eps=EPSILON), Attention(dim, heads), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim, eps=EPSILON),
            nn.Linear(dim, feedforward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, dim),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, dim) to tokens (B, N, dim)."""
        x = x + self.attention(x)
        out: Tensor = x + self.mlp(x)
        return out


class Attention(nn.Module):
    """MHSA(x) = [A_1 V_1; ...; A_h V_h] W_o, A_i = softmax(Q_i K_i^T / sqrt(dim / h)), over all tokens.

    Args:
        dim: width of the tokens.
        heads: h.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, dim) to tokens (B, N, dim)."""
        query, key, value = (
            linear(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)  # (B, h, N, dim / h)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


def initialise(module: nn.Module) -> None:
    """Initialise as the authors do: Xavier-uniform linear layers, LeCun-normal patches, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
