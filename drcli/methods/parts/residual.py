"""What is left to learn where others are right already: a cross-entropy that counts less there."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from drcli.methods.parts.unimodal_scores import right_probabilities


def residual_loss(logits: Tensor, others: Tensor, labels: Tensor, taken_off: float) -> Tensor:
    """Return -mean over i of (1 - t softmax(others)_i(y_i)) log softmax(logits)_i(y_i), shape ().

    Args:
        logits: z (B, C) of what is trained.
        others: logits (B, C) of what has been learnt before; a constant.
        labels: y (B,).
        taken_off: t, how much of the cross-entropy the others' probability of the true class takes off.
    """
    right = right_probabilities(others.detach(), labels)
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return ((1 - taken_off * right) * losses).mean()
