"""TCMax's loss once more, literally: a loop over every combination of rows and every class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product


def slow_tcmax(
    fused: Callable[[tuple[int, ...]], Sequence[float]], modalities: int, labels: Sequence[int], classes: int
) -> float:
    """The loss in nats.

    Args:
        fused: gives the logits of a combination: row i_m of modality m.
        modalities: M.
        labels: of the rows.
        classes: C.
    """
    rows = len(labels)
    right = sum(fused((i,) * modalities)[label] for i, label in enumerate(labels)) / rows
    total = 0.0
    for combination in product(range(rows), repeat=modalities):
        for z in fused(combination):
            total += math.exp(z)
    return -right + math.log(total) - math.log(rows**modalities * classes)
