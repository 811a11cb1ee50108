"""The loss of a run, which its task decides."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from drcli.data.rows import to_device
from drcli.metrics import value_losses
from drcli.task import LossName


def criterion(loss: LossName | None, logits: Tensor, labels: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return the mean loss over some rows, shape ().

    Args:
        loss: of a regression; None for the cross-entropy.
        logits: (B, C), or values (B, 1) of a regression.
        labels: (B,) class indices or values.
        rows: which rows count (B,), bool; None: all. The loss is 0 where none does.
    """
    if loss is None and rows is None:
        return functional.cross_entropy(logits, labels)
    if loss is None:
        losses = functional.cross_entropy(logits, labels, reduction="none")
    else:
        losses = value_losses(loss, logits[:, 0], labels)
    if rows is None:
        return losses.mean()
    weights = to_device(rows, logits.device).to(logits.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=1)
