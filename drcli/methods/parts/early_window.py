"""Whether an encoder is still early in its training: by how much the squares of its gradients grow between epochs.

The window in which InfoReg acts (Huang et al. 2025, arXiv 2503.18595), in the form of the paper and that of its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Form = Literal["paper", "code"]

RECENT = 10
"""Epochs whose traces the authors' code averages."""


def trace(parameters: Sequence[nn.Parameter], form: Form) -> Tensor:
    """Return the sum of squared gradients, ().

    Args:
        parameters: of one encoder, at least one of them with a gradient.
        form: code: tensors of two dimensions or more alone, and of each the mean of the squares.
    """
    found = [p.grad.square() for p in parameters if p.grad is not None and (form == "paper" or p.dim() > 1)]
    return torch.stack([squares.sum() if form == "paper" else squares.mean() for squares in found]).sum()


def rise(traces: Sequence[float], form: Form) -> float:
    """Return the relative rise of the traces of the epochs so far, at most 1.

    paper: (T(t-1) - T(t-2)) / T(t-1); 0 before there are two. code: the same of means over the last ten epochs, those
    before the first counting as 0; 1 before there is one.
    """
    if form == "paper":
        before, now = traces[-2:] if len(traces) > 1 else (0.0, 0.0)
    elif traces:
        padded = [0.0] * RECENT + [*traces]
        before, now = sum(padded[-RECENT - 1 : -1]), sum(padded[-RECENT:])
    else:
        before, now = 0.0, 1.0
    return (now - before) / now if now > 0 else 0.0
