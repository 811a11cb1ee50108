"""What flows between the stages of an encoder: maps of pictures, or tokens of sequences.

Intermediate fusions read and change it without knowing which of the two it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from drcli.models.blocks import pool


@dataclass(frozen=True)
class Maps:
    """Feature maps, the frames of a clip folded into the batch.

    Attributes:
        values: (B * T, C, H, W).
        frames: T.
    """

    values: Tensor
    frames: int = 1

    def mean(self) -> Tensor:
        """Return the average over space and frames, (B, C)."""
        return pool(self.values, self.frames)

    def scaled(self, gate: Tensor) -> Self:
        """Return the maps with each channel of each clip times its gate (B, C)."""
        gate = gate.repeat_interleave(self.frames, dim=0)[:, :, None, None]
        return replace(self, values=self.values * gate)

    def over_frames(self) -> Tensor:
        """Return the maps averaged over frames, (B, C, H, W)."""
        return self.values.reshape(-1, self.frames, *self.values.shape[1:]).mean(dim=1)


@dataclass(frozen=True)
class Tokens:
    """A sequence of vectors.

    Attributes:
        values: (B, L, D).
        padding: (B, L), true where a step is none; None where all are valid.
    """

    values: Tensor
    padding: Tensor | None = None

    def lengths(self) -> Tensor:
        """Return the number of valid steps, (B,)."""
        batch, steps = self.values.shape[:2]
        if self.padding is None:
            return torch.full((batch,), steps, device=self.values.device)
        return steps - self.padding.sum(dim=1)

    def mean(self) -> Tensor:
        """Return the average over the valid steps, (B, D); 0 where there is none."""
        if self.padding is None:
            return self.values.mean(dim=1)
        valid = (~self.padding)[:, :, None].to(self.values.dtype)
        return (self.values * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)

    def scaled(self, gate: Tensor) -> Self:
        """Return the sequence with each channel of each sample times its gate (B, D)."""
        return replace(self, values=self.values * gate[:, None, :])


Hidden = Maps | Tokens
