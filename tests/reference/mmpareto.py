"""MMPareto's combination of two gradients once more, literally: plain Python lists, one number after another."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vectors = Sequence[Sequence[float]]


def dot(x: Sequence[float], y: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def slow_combination(fused: Vectors, own: Vectors, gamma: float) -> tuple[list[list[float]], float]:
    """The final gradient of an encoder, tensor after tensor, and k_0.

    Args:
        fused: G_0, one list per tensor.
        own: G_m.
        gamma: factor.
    """
    whole_fused = [x for tensor in fused for x in tensor]
    whole_own = [x for tensor in own for x in tensor]
    k_0 = slow_weight(whole_fused, whole_own)
    found = []
    for g_0, g_m in zip(fused, own, strict=True):
        g = [2 * k_0 * x + 2 * (1 - k_0) * y for x, y in zip(g_0, g_m, strict=True)]
        s = [x + y for x, y in zip(g_0, g_m, strict=True)]
        length, wanted = math.sqrt(dot(g, g)), math.sqrt(dot(s, s))
        if wanted > length > 0:
            g = [x * wanted / length for x in g]
        found.append([gamma * x for x in g])
    return found, k_0


def slow_weight(fused: Sequence[float], own: Sequence[float]) -> float:
    """k_0 of the min-norm point of the segment between two vectors, or 1/2 where they agree."""
    a, b, d = dot(fused, fused), dot(fused, own), dot(own, own)
    if b > 0:
        return 0.5
    if b >= a:
        return 0.999
    if b >= d:
        return 0.001
    return (d - b) / (a + d - 2 * b)
