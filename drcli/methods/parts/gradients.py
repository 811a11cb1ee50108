"""Gradients of losses that no optimiser follows: what one step on one loss would do to another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def gradients(loss: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of a loss (), one per parameter; 0 where it does not depend on the parameter."""
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return list(found)


def inner_product(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """Return the inner product of two lists of tensors of equal shapes, summed in float64."""
    return float(torch.stack([(a.double() * b.double()).sum() for a, b in zip(first, second, strict=True)]).sum())
