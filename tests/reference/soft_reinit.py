"""One re-learning once more, literally: numpy, one parameter after another, nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor


def slow_relearning(
    weights: Mapping[str, Tensor], initial: Mapping[str, Tensor], strengths: Mapping[str, float], names: set[str]
) -> dict[str, np.ndarray]:
    """All tensors of a model after an event: `names` of encoder m are pulled by its strength, in float64."""
    after = {}
    for name, tensor in weights.items():
        w = tensor.numpy().astype(np.float64) if name in names else tensor.numpy()
        if name in names:
            a = strengths[name.split(".")[1]]
            w = a * initial[name].numpy().astype(np.float64) + (1 - a) * w
        after[name] = w
    return after
