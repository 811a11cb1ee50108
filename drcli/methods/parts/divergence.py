"""How far predictions are from one another: Jensen-Shannon divergences of softmax outputs, and of uniform ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

Divergence = Annotated[
    Literal["js", "reversed"],
    Field(description="js: Jensen-Shannon; reversed: with each term's arguments exchanged, as in LFM's code"),
]


def divergence(first: Tensor, second: Tensor, kind: Literal["js", "reversed"] = "js") -> Tensor:
    """Return D(softmax(u), softmax(v)), the mean over the batch, shape (), of logits u, v (B, C); in nats.

    With m = (p + q) / 2: "js" is (KL(p || m) + KL(q || m)) / 2, at most ln 2; "reversed" (KL(m || p) + KL(m || q)) / 2.
    It is computed from logarithms, so that a probability that underflows does not make "js" infinite.
    """
    logs = (first.log_softmax(dim=1), second.log_softmax(dim=1))
    mixed = torch.logsumexp(torch.stack(logs), dim=0) - math.log(2)
    if kind == "js":
        terms = [(log.exp() * (log - mixed)).sum(dim=1) for log in logs]
    else:
        terms = [(mixed.exp() * (mixed - log)).sum(dim=1) for log in logs]
    return torch.stack(terms).sum(dim=0).mean() / 2


def mean_divergence(pairs: Sequence[tuple[Tensor, ...]], kind: Literal["js", "reversed"] = "js") -> Tensor:
    """Return the mean of `divergence` over pairs of logits, shape ()."""
    return torch.stack([divergence(first, second, kind) for first, second in pairs]).mean()


def entropies(logits: Tensor) -> Tensor:
    """Return H(softmax(z)) of each sample, (B,), of logits (B, C); in nats, 0 to ln C."""
    log = logits.log_softmax(dim=1)
    return -(log.exp() * log).sum(dim=1)


def to_uniform(logits: Tensor) -> Tensor:
    """Return KL(softmax(z) || uniform) of each sample, (B,), of logits (B, C); in nats, 0 to ln C."""
    return math.log(logits.shape[1]) - entropies(logits)
