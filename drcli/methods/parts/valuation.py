"""What each modality contributes to the prediction of each sample: Shapley values of right predictions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drcli.data.rows import to_device
from drcli.methods.parts.shapley import Coalition, coalitions, shapley_weights, weighted_sum
from drcli.models.multimodal import MultimodalModel
from drcli.relearning.features import evaluating


def contributions(right: Mapping[Coalition, Tensor]) -> dict[str, Tensor]:
    """Return phi_m of every sample, {m: (N,)} in float64: the Shapley value of v(S) = |S| if S is right, else 0.

    Wei et al. (CVPR 2024, arXiv 2309.06255); the values of a sample add up to M if all modalities together are
    right, else to 0.

    Args:
        right: whether the prediction from each non-empty subset of the modalities is right, {S: (N,)}, bool.
    """
    values = {coalition: len(coalition) * correct.double() for coalition, correct in right.items()}
    modalities = sorted(frozenset().union(*right))
    return {m: weighted_sum(weights, values) for m, weights in shapley_weights(modalities).items()}


@torch.no_grad()
def right_coalitions(
    model: MultimodalModel, features: Mapping[str, Tensor], labels: Tensor, batch_size: int
) -> dict[Coalition, Tensor]:
    """Return whether a late fusion is right with the features outside each subset set to 0, {S: (N,)}, on the CPU.

    Args:
        model: its fusion is run in evaluation mode.
        features: {m: (N, D_m)}, on the CPU.
        labels: y (N,), on the CPU.
        batch_size: rows of a step.
    """
    device = next(model.fusion.parameters()).device
    found: dict[Coalition, list[Tensor]] = {coalition: [] for coalition in coalitions(sorted(features))}
    with evaluating(model):
        for rows in torch.split(torch.arange(len(labels)), batch_size):
            own = {m: to_device(x[rows], device) for m, x in features.items()}
            for coalition, correct in found.items():
                logits = model.fuse({m: x if m in coalition else torch.zeros_like(x) for m, x in own.items()})
                correct.append(logits.argmax(dim=1).cpu() == labels[rows])
    return {coalition: torch.cat(correct) for coalition, correct in found.items()}
