"""Clipping of gradients that only some steps need."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def clip_where_large(gradients: Sequence[Tensor], watched: Sequence[Tensor], norm: float) -> None:
    """Scale gradients in place to a norm, if theirs is larger and an entry of the watched ones is beyond [-1, 1].

    The host does not wait for the device.

    Args:
        gradients: what is scaled, together.
        watched: one tensor or more.
        norm: the largest norm that is left.
    """
    largest = torch.stack([gradient.abs().max() for gradient in watched]).max()
    scale = (norm / nn.utils.get_total_norm(gradients)).clamp(max=1.0)
    torch._foreach_mul_(list(gradients), torch.where(largest > 1, scale, torch.ones_like(scale)))
