"""CentralNet (Vielzeuf, Lechervy, Pateux, Jurie; ECCV workshops 2018, arXiv 1808.07275)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.nn import functional

from drcli.models.backbone import Hidden, Maps
from drcli.models.fusion import (
    Decomposition,
    Encoders,
    Features,
    Outputs,
    Staged,
    backbone_key,
    begin,
    end,
    unequal_stages,
)
from drcli.models.resnet import initialise


class CentralNet(Staged):
    """A central network beside the encoders, which it reads after every stage.

        f_i = a_i,C * c_i + sum over m of a_i,m * h_i,m,   c_0 = 0
        c_{i+1} = relu(BN(conv3x3(f_i))), then average pooling and a linear layer

    h_i,m are the maps of stage i averaged over frames, pooled to the smallest height and width at that
    stage and padded with zeros to its largest number of channels. Convolutions halve the size and give the
    channels of the next stage; the last keeps both. Every encoder has a linear head of its own besides.

    The paper minimises CE(central) + sum over m of CE(head m): method `multi_loss` with
    `unimodal_logits: head`. Method `joint` minimises the cross-entropy of the predicted logits alone, which
    with `predict: central` leaves the heads as they are drawn. The logits are not a function of the
    features. Zero-padding and blocks follow a re-implementation (Perez-Rua et al., CVPR 2019), with 3 x 3
    convolutions for its 4 x 4; encoders are trained with the rest, where it trains them before.
    """

    class Settings(Staged.Settings):
        """The recipe block of `centralnet`."""

        scalars: Literal["raw", "sigmoid"] = Field(
            "raw",
            description="learned weights a of the sum; raw: as they are, drawn from U(0, 1); sigmoid: their sigmoids",
        )
        predict: Literal["central", "sum"] = Field(
            "central",
            description="logits; central: those of the central network; sum: their sum with those of the heads",
        )

    settings: Settings

    def __init__(
        self, settings: Settings, widths: Mapping[str, int], num_classes: int, channels: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(settings, widths, num_classes, channels)
        self.channels = [max(level) for level in zip(*channels.values(), strict=True)]
        following = [*self.channels[1:], self.channels[-1]]
        strides = [2] * (len(self.channels) - 1) + [1]
        self.blocks = nn.ModuleList(map(_block, self.channels, following, strides))
        initialise(self.blocks)
        self.carry = nn.Parameter(torch.rand(len(self.channels) - 1))
        self.shares = nn.ParameterDict({m: torch.rand(len(self.channels)) for m in sorted(widths)})
        self.linear = nn.Linear(self.channels[-1], num_classes)
        self.heads = nn.ModuleDict({m: nn.Linear(widths[m], num_classes) for m in sorted(widths)})

    @classmethod
    def check(cls, settings: BaseModel, encoders: Encoders) -> Iterator[tuple[str, str]]:
        """Refuse encoders without stages, with unequal numbers of them, or without maps."""
        yield from unequal_stages("centralnet", encoders)
        for m, encoder in encoders.items():
            if encoder.channels and encoder.hidden is not Maps:
                yield (
                    backbone_key(m),
                    "gives tokens, and fusion centralnet joins feature maps: use a convolutional one, or fusion=mmtm",
                )

    @classmethod
    def offers(cls, settings: BaseModel) -> tuple[Decomposition, ...]:
        """The encoders' own heads."""
        return ("head",)

    def run(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> Outputs:
        """Run encoders and central network, level by level."""
        hidden = begin(encoders, inputs, lengths)
        central: Tensor | None = None
        for level, block in enumerate(self.blocks):
            hidden = {m: encoders[m].stage(level, x) for m, x in hidden.items()}
            central = block(self.mixed(level, central, {m: _maps(x) for m, x in hidden.items()}))
        assert central is not None
        features = end(encoders, hidden)
        logits: Tensor = self.linear(central.mean(dim=(2, 3)))
        if self.settings.predict == "sum":
            logits = torch.stack([logits, *self.unimodal_logits(features, "head").values()]).sum(dim=0)
        return Outputs(features, logits)

    def mixed(self, level: int, central: Tensor | None, maps: Mapping[str, Tensor]) -> Tensor:
        """Return f_i (B, C, H, W) from c_i, None at level 0, and the modalities' maps {m: (B, C_m, H_m, W_m)}."""
        weighed = [(self._scalar(self.shares[m], level), x) for m, x in maps.items()]
        if central is not None:
            weighed.append((self._scalar(self.carry, level - 1), central))
        height, width = (min(x.shape[axis] for _, x in weighed) for axis in (2, 3))
        channels = self.channels[level]
        terms = [a * widened(pooled(x, (height, width)), channels) for a, x in weighed]
        return torch.stack(terms).sum(dim=0)

    def _scalar(self, numbers: Tensor, index: int) -> Tensor:
        return numbers[index].sigmoid() if self.settings.scalars == "sigmoid" else numbers[index]

    def unimodal_logits(self, features: Features, how: Decomposition) -> dict[str, Tensor]:
        """Return the logits of each encoder's own head, {m: (B, C)}."""
        assert how == "head"
        return {m: self.heads[m](features[m]) for m in self.widths}


def _block(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _maps(hidden: Hidden) -> Tensor:
    assert isinstance(hidden, Maps)  # `check` has seen to it
    return hidden.over_frames()


def widened(maps: Tensor, channels: int) -> Tensor:
    """Return maps (B, C, H, W) with channels of zeros behind their own, (B, channels, H, W)."""
    return functional.pad(maps, (0, 0, 0, 0, 0, channels - maps.shape[1]))


def pooled(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Average (B, C, H, W) over bins to (B, C, *size).

    The same as adaptive_avg_pool2d, but its gradient on a GPU has the same bits every time.
    """
    if tuple(maps.shape[2:]) == size:
        return maps
    rows, columns = (bins(old, new, maps) for old, new in zip(maps.shape[2:], size, strict=True))
    return rows @ maps @ columns.T


def bins(places: int, count: int, like: Tensor) -> Tensor:
    """Return the matrix (count, places) that averages places over bins, with the dtype and device of a tensor.

    Bin k holds the places floor(k * places / count) up to, not with, ceil((k + 1) * places / count).
    """
    place = torch.arange(places, device=like.device)
    k = torch.arange(count, device=like.device)[:, None]
    inside = (place >= k * places // count) & (place < ((k + 1) * places + count - 1) // count)
    return (inside / inside.sum(dim=1, keepdim=True)).to(like.dtype)
