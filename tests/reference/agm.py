"""AGM once more, literally: the published formulas for two and three modalities, sample by sample.

The gradient is scaled as the authors describe it: on its way back into each response.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import mul

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def two_responses(f: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """phi of modalities a and v; f("av") are the logits with both, f("a") with the other input 0."""
    return {"a": (f("av") - f("v") + f("a")) / 2, "v": (f("av") - f("a") + f("v")) / 2}


def three_responses(f: Callable[[str], np.ndarray]) -> dict[str, np.ndarray]:
    """phi of modalities a, v and t; the letters of a coalition in the order a, v, t."""
    return {
        "a": (f("avt") - f("vt")) / 3 + (f("av") - f("v") + f("at") - f("t")) / 6 + f("a") / 3,
        "v": (f("avt") - f("at")) / 3 + (f("av") - f("a") + f("vt") - f("t")) / 6 + f("v") / 3,
        "t": (f("avt") - f("av")) / 3 + (f("at") - f("a") + f("vt") - f("v")) / 6 + f("t") / 3,
    }


def slow_strength(response: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """Mean over samples of -log max(p(y), 1e-8)."""
    total = 0.0
    for row, label in zip(response, labels, strict=True):
        p = math.exp(row[label] - max(row)) / sum(math.exp(z - max(row)) for z in row)
        total += -math.log(max(p, 1e-8))
    return total / len(labels)


class SlowKappa:
    """kappa batch after batch, the running averages beside it."""

    def __init__(self, modalities: Sequence[str], alpha: float, cap: float | None) -> None:
        self.alpha, self.cap = alpha, cap
        self.averages = dict.fromkeys(modalities, 0.0)
        self.t = 0

    def __call__(self, s: Mapping[str, float]) -> dict[str, float]:
        """kappa of the next batch, whose strengths are s."""
        self.t += 1
        kappa = {}
        for m in s:
            reference = self.ratio(self.averages, m) if self.t > 1 else 1.0
            difference = reference - self.ratio(s, m)
            kappa[m] = math.exp(self.alpha * (difference if self.cap is None else min(difference, self.cap)))
        for m in s:
            self.averages[m] = self.averages[m] * (self.t - 1) / self.t + s[m] / self.t
        return kappa

    @staticmethod
    def ratio(s: Mapping[str, float], m: str) -> float:
        count = len(s)
        return math.exp(count / (count - 1) * (sum(s.values()) / count - s[m]))


def two_losses(full: Tensor, alone: Mapping[str, Tensor], labels: Tensor, kappa: Mapping[str, float]) -> Tensor:
    """Cross-entropy of the re-summed responses of two modalities, with a hook of kappa on each.

    `alone` are the logits with one modality, in the order of `kappa`.
    """
    a, v = kappa
    responses = {a: (full - alone[v] + alone[a]) / 2, v: (full - alone[a] + alone[v]) / 2}
    for m, response in responses.items():
        response.register_hook(partial(mul, kappa[m]))
    return functional.cross_entropy(torch.stack(list(responses.values())).sum(dim=0), labels)
