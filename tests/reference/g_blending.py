"""Gradient blending once more, literally: weights in plain Python, training alone with SGD by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Rows = Sequence[tuple[Any, Tensor]]


def slow_weights(gains: Mapping[str, float], overfitting: Mapping[str, float]) -> dict[str, float]:
    """w_k = (1/Z) dG_k / dO_k^2, for gains above 0."""
    z = 0.0
    for k in gains:
        z += gains[k] / (overfitting[k] * overfitting[k])
    return {k: gains[k] / (overfitting[k] * overfitting[k]) / z for k in gains}


def slow_growth(
    modules: Sequence[nn.Module],
    logits_of: Callable[[Any], Tensor],
    *,
    train: Rows,
    val: Rows,
    epochs: Sequence[tuple[float, Rows]],
    momentum: float,
    decay: float,
) -> tuple[float, float]:
    """(dG, dO) of a network.

    Args:
        modules: what it is made of.
        logits_of: from inputs to logits.
        train, val: the splits, as batches of inputs and labels.
        epochs: learning rate and batches of each epoch.
        momentum, decay: of SGD.
    """
    train_before, val_before = (slow_loss(modules, logits_of, rows) for rows in (train, val))
    parameters = [parameter for module in modules for parameter in module.parameters()]
    velocity: list[Tensor] = []
    for rate, batches in epochs:
        for module in modules:
            module.train()
        for inputs, labels in batches:
            loss = slow_cross_entropies(logits_of(inputs), labels).mean()
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                steps = [g + decay * p for g, p in zip(gradients, parameters, strict=True)]
                velocity = [momentum * v + s for v, s in zip(velocity, steps, strict=True)] if velocity else steps
                for parameter, step in zip(parameters, velocity, strict=True):
                    parameter.sub_(rate * step)
    train_after, val_after = (slow_loss(modules, logits_of, rows) for rows in (train, val))
    return val_before - val_after, (val_after - train_after) - (val_before - train_before)


def slow_loss(modules: Sequence[nn.Module], logits_of: Callable[[Any], Tensor], rows: Rows) -> float:
    """Mean cross-entropy in evaluation mode, one row after another."""
    for module in modules:
        module.eval()
    losses: list[float] = []
    for inputs, labels in rows:
        with torch.no_grad():
            for row, label in zip(logits_of(inputs).tolist(), labels.tolist(), strict=True):
                losses.append(math.log(sum(math.exp(z) for z in row)) - row[label])
    return sum(losses) / len(losses)


def slow_cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """-log(exp(z_y) / sum over j of exp(z_j)), (B,)."""
    return torch.stack([row.exp().sum().log() - row[label] for row, label in zip(logits, labels, strict=True)])
