"""Predictions from logits of single modalities, weighted for every sample or by fixed weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from drcli.data.rows import to_device
from drcli.methods.parts.divergence import entropies
from drcli.models.presence import ALL_PRESENT

Weights = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=1e6)]] | None,
    Field(description="weight of each modality's logits in the prediction; null: 1 / M"),
]


def weighted_logits(logits: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return z_i = sum over k of w_k,i z_k,i, (B, C), of logits {k: (B, C)} and weights {k: (B,)}."""
    return torch.stack([weights[k][:, None] * z for k, z in logits.items()]).sum(dim=0)


def fixed_logits(
    logits: Mapping[str, Tensor], weights: Mapping[str, float] | None, present: Mapping[str, Tensor] = ALL_PRESENT
) -> Tensor:
    """Return z = sum over m of w_m z_m, (B, C), of logits {m: (B, C)}; without weights, w_m = 1 / M.

    The terms of modalities that a row lacks are 0; see `Batch.present`.
    """
    chosen = weights or dict.fromkeys(logits, 1 / len(logits))
    terms = {m: chosen.get(m, 0.0) * z for m, z in logits.items()}
    return torch.stack(list(without_absent(terms, present).values())).sum(dim=0)


def without_absent(
    values: Mapping[str, Tensor], present: Mapping[str, Tensor], other: float = 0.0
) -> dict[str, Tensor]:
    """Return {k: (B, ...)} with a constant where a row lacks modality k; see `Batch.present`."""
    return {k: x.masked_fill(~_beside(present[k], x), other) if k in present else x for k, x in values.items()}


def _beside(rows: Tensor, x: Tensor) -> Tensor:
    return to_device(rows, x.device).reshape(-1, *[1] * (x.dim() - 1))


def entropy_weights(logits: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT) -> dict[str, Tensor]:
    """Return w_m,i = softmax over m of -H_m,i, {m: (B,)}: the entropies of softmax(z_m) of each sample, in nats.

    exp(max over n of H_n - H_m) over its sum (Zhang et al. 2024, arXiv 2311.10707) is the same.
    """
    return softmax_over({m: -entropies(z) for m, z in logits.items()}, present)


def softmax_over(scores: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT) -> dict[str, Tensor]:
    """Return the softmax over the keys, {k: (B,)}, of scores {k: (B,)}; 0 where a row lacks modality k."""
    scores = without_absent(scores, present, -math.inf)
    found = torch.stack(list(scores.values())).softmax(dim=0)
    return dict(zip(scores, found, strict=True))


def unfit_weights(weights: Mapping[str, float] | None, modalities: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with fixed weights, if anything, as a clause that follows their value."""
    unknown = [name for name in weights or {} if name not in modalities]
    if unknown:
        yield f"knows {', '.join(modalities)}; not {', '.join(unknown)}"
    elif weights is not None and not any(weights.values()):
        yield f"must give a weight above 0 to one at least of {', '.join(modalities)}"
