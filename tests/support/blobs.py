"""Made-up representations: one Gaussian blob a class."""

from __future__ import annotations

import torch
from torch import Tensor


def blobs(
    size: int,
    *,
    num_classes: int = 5,
    spread: float = 0.3,
    width: int = 8,
    signal: float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return features (size, width) and labels (size,); the same centres whatever `seed`.

    With a `signal` of 0 the features know nothing of the labels.
    """
    centres = torch.randn(num_classes, width, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(size) % num_classes
    noise = torch.randn(size, width, generator=torch.Generator().manual_seed(seed))
    return signal * centres[labels] + spread * noise, labels
