"""The linear probe once more: torch's L-BFGS in float64, to convergence, nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def slow_probe(
    train: tuple[Tensor, Tensor], others: Sequence[Tensor], *, inverse_penalty: float, num_classes: int
) -> list[Tensor]:
    """Predictions for `others`: minimise sum of cross-entropies + |W|^2 / (2 C), the bias unpenalised."""
    x, y = train[0].double(), train[1]
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    std[std < 1e-12] = 1.0
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = (x - mean) / std @ weight.T + bias
        loss = functional.cross_entropy(logits, y, reduction="sum") + weight.square().sum() / (2 * inverse_penalty)
        loss.backward()
        return loss

    optimizer.step(closure)
    return [(((o.double() - mean) / std) @ weight.T + bias).argmax(dim=1) for o in others]
