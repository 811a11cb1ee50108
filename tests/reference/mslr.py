"""Modality-specific learning rates once more, literally: plain Python."""

from __future__ import annotations

from collections.abc import Sequence


def slow_rho(accuracies: Sequence[float], bound: float | None) -> float:
    """Accuracy after the last epoch over the mean of those after the five epochs before it."""
    if len(accuracies) < 6:
        return 1.0
    total = 0.0
    for number in range(2, 7):
        total += accuracies[-number]
    ratio = accuracies[-1] / (total / 5)
    if bound is not None and ratio > bound:
        return bound
    if bound is not None and ratio < 1 / bound:
        return 1 / bound
    return ratio


def slow_sgd(weight: float, gradients: Sequence[float], rate: float, momentum: float, decay: float) -> float:
    """SGD with momentum and weight decay, one number, at a rate of its own."""
    velocity = 0.0
    for number, gradient in enumerate(gradients):
        direction = gradient + decay * weight
        velocity = direction if number == 0 else momentum * velocity + direction
        weight -= rate * velocity
    return weight
