"""Predictions from logits of single modalities, weighted for every sample or by fixed weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from drcli.methods.parts.divergence import entropies

Weights = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None,
    Field(description="weight of each modality's logits in the prediction; null: 1 / M"),
]


def weighted_logits(logits: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return z_i = sum over k of w_k,i z_k,i, (B, C), of logits {k: (B, C)} and weights {k: (B,)}."""
    return torch.stack([weights[k][:, None] * z for k, z in logits.items()]).sum(dim=0)


def fixed_logits(logits: Mapping[str, Tensor], weights: Mapping[str, float] | None) -> Tensor:
    """Return z = sum over m of w_m z_m, (B, C), of logits {m: (B, C)}; without weights, w_m = 1 / M."""
    chosen = weights or dict.fromkeys(logits, 1 / len(logits))
    return torch.stack([chosen.get(m, 0.0) * z for m, z in logits.items()]).sum(dim=0)


def entropy_weights(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return w_m,i = softmax over m of -H_m,i, {m: (B,)}: the entropies of softmax(z_m) of each sample, in nats.

    exp(max over n of H_n - H_m) over its sum (Zhang et al. 2024, arXiv 2311.10707) is the same.
    """
    return softmax_over({m: -entropies(z) for m, z in logits.items()})


def softmax_over(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the softmax over the keys, {k: (B,)}, of scores {k: (B,)}."""
    found = torch.stack(list(scores.values())).softmax(dim=0)
    return dict(zip(scores, found, strict=True))


def unfit_weights(weights: Mapping[str, float] | None, modalities: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with fixed weights, if anything, as a clause that follows their value."""
    unknown = [name for name in weights or {} if name not in modalities]
    if unknown:
        yield f"knows {', '.join(modalities)}; not {', '.join(unknown)}"
    elif weights is not None and not any(weights.values()):
        yield f"must give a weight above 0 to one at least of {', '.join(modalities)}"
