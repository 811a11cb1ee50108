"""How a modality's stored arrays become inputs: what is planned, and what all inputs have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from drcli.data import transforms
from drcli.data.format import ModalityInfo
from drcli.data.info_checks import BY_DIMENSION
from drcli.data.input import Corruption, InputSettings
from drcli.errors import UsageError

PICTURES = ("frames", "flow")


@dataclass(frozen=True)
class InputPlan:
    """How a modality's stored arrays become inputs.

    Attributes:
        info: how it is stored.
        settings: frames, size and flip of the recipe.
        corruption: noise on the input, or None.
    """

    info: ModalityInfo
    settings: InputSettings = field(default_factory=InputSettings)
    corruption: Corruption | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        if self.info.kind not in PICTURES:
            return self.info.shape
        stored, channels, height, width = self.info.shape
        size = self.settings.size
        return (self.settings.frames or stored, channels, size or height, size or width)


@dataclass(frozen=True)
class Transform:
    """Makes inputs of arrays that are stored as a prepared dataset stores them, as evaluation does.

    The recipe's noise on inputs is left out: in evaluation it belongs to the rows of a prepared dataset.

    Attributes:
        plan: how the modality's stored arrays become inputs.
    """

    plan: InputPlan

    def __call__(self, stored: Tensor | np.ndarray[Any, Any], lengths: Tensor | None = None) -> Tensor:
        """Return inputs (B, *shape), float32, or int64 of token ids, of stored arrays (B, *stored shape) on any device.

        Args:
            stored: as `plan.info` describes them.
            lengths: (B,) valid steps of sequences and tokens.

        Raises:
            UsageError: the arrays have another shape.
        """
        stored = torch.as_tensor(stored)
        expected = self.plan.info.shape
        if tuple(stored.shape[1:]) != expected:
            raise UsageError(
                f"arrays of shape (B, {', '.join(map(str, expected))}) expected, not {tuple(stored.shape)}"
            )
        if self.plan.info.vocabulary:
            return token_ids(stored, self.plan.info.pad, lengths)
        if self.plan.info.kind in PICTURES:
            stored = stored[:, transforms.middle_frames(stored.shape[1], self.plan.shape[0]).to(stored.device)]
        found = norm(self.plan.info, stored.device)
        return normalised(stored.to(torch.float32, copy=True), self.plan, found, None, lengths)


def normalised(
    inputs: Tensor, plan: InputPlan, norms: tuple[Tensor, Tensor], boxes: Tensor | None, lengths: Tensor | None
) -> Tensor:
    """Resize, normalise and blank the padding of float32 arrays, which are changed in place.

    Args:
        inputs: (B, ...) as stored, in float32.
        plan: of the modality.
        norms: what `norm` returned.
        boxes: (B, 4) crops in training; None: pictures are resized whole.
        lengths: (B,) valid steps of sequences.
    """
    if plan.settings.size is not None:
        inputs = _resized(inputs, boxes, plan.settings.size)
    mean, scale = norms
    inputs = inputs.sub_(mean).mul_(scale)
    return inputs if lengths is None else _without_padding(inputs, lengths)


def token_ids(stored: Tensor, pad: int, lengths: Tensor | None) -> Tensor:
    """Return the ids of (B, L) as int64, with `pad` beyond each row's length; nothing else is done to them."""
    ids = stored.to(torch.int64)
    if lengths is None:
        return ids
    steps = torch.arange(ids.shape[1], device=ids.device)
    return ids.masked_fill(steps >= lengths[:, None], pad)


def _resized(pictures: Tensor, boxes: Tensor | None, size: int) -> Tensor:
    """Crop (in training) or resize (B, T, C, H, W)."""
    return transforms.resize(pictures, size) if boxes is None else transforms.crop_and_resize(pictures, boxes, size)


def norm(info: ModalityInfo, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and inverse standard deviation, shaped to the channel axis of a batch."""
    trailing = 0 if info.kind in BY_DIMENSION or len(info.mean) == 1 else 2
    mean, std = (torch.tensor(values).reshape(-1, *[1] * trailing) for values in (info.mean, info.std))
    return mean.to(device), std.reciprocal().to(device)


def _without_padding(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Set the steps of (B, L, D) beyond each row's length to 0."""
    valid = torch.arange(inputs.shape[1], device=inputs.device) < lengths[:, None]
    return inputs * valid[:, :, None]
