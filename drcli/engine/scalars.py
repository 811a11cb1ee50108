"""Scalars of the steps of one epoch: their means, and the end of a run whose losses are not finite."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drcli.errors import DivergedError

CHECK_EVERY = 64
"""Steps between two looks at the losses: looking makes the device wait."""


class ScalarLog:
    """Scalars of the steps of one epoch, kept on the device and looked at now and then.

    Args:
        epoch: the epoch, for messages.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.sizes: list[int] = []
        self.values: dict[str, list[Tensor]] = {}
        self.checked = 0

    def add(self, scalars: Mapping[str, Tensor], size: int) -> None:
        """Note the scalars of a step on `size` rows.

        Raises:
            DivergedError: one of the steps so far had a non-finite loss.
        """
        self.sizes.append(size)
        for name, value in scalars.items():
            self.values.setdefault(name, []).append(value)
        if len(self.sizes) - self.checked >= CHECK_EVERY:
            self._check()

    def _check(self) -> None:
        if self.checked == len(self.sizes):  # as it is at the end where CHECK_EVERY divides the steps
            return
        for name, values in self.values.items():
            finite = torch.isfinite(torch.stack(values[self.checked :])).cpu()
            if not finite.all():
                step = self.checked + int((~finite).nonzero()[0])
                raise DivergedError(diverged(f"epoch {self.epoch}, step {step}: {name} is {float(values[step])}"))
        self.checked = len(self.sizes)

    def means(self) -> dict[str, float]:
        """Return the means over rows, and "loss", the sum of the losses.

        Raises:
            DivergedError: a loss is not finite.
        """
        self._check()
        sizes = torch.tensor(self.sizes, dtype=torch.float64)
        means = {
            name: float((torch.stack(values).double().cpu() * sizes).sum() / sizes.sum())
            for name, values in self.values.items()
        }
        return {"loss": sum(mean for name, mean in means.items() if name.startswith("loss_")), **means}


def diverged(what: str) -> str:
    """The message for a run with numbers that are not finite."""
    return f"{what}; the run stops. Lower training.optimizer.lr, or set training.clip_grad_norm"
