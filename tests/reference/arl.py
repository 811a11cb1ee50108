"""The factors of ARL once more, literally: plain Python, one sample after another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def slow_asymmetry(logits: Mapping[str, Sequence[Sequence[float]]], temperature: float) -> dict[str, float]:
    """w_m of every modality from its logits (B, C) as lists."""
    d, e = {}, {}
    for m, rows in logits.items():
        classes = len(rows[0])
        d[m] = sum(sum(abs(row[c]) for row in rows) / len(rows) for c in range(classes))
        e[m] = sum(slow_entropy(row) for row in rows) / len(rows)
    d = {m: x / sum(d.values()) for m, x in d.items()}
    e = {m: max(x / sum(e.values()), 0.3) for m, x in e.items()}
    inverted = {m: 1 / x for m, x in e.items()}
    confidence = {m: x / sum(inverted.values()) for m, x in inverted.items()}
    scores = {}
    for m in logits:
        others = [x for n, x in d.items() if n != m]
        scores[m] = math.exp(temperature * sum(others) / len(others) * confidence[m])
    return {m: x / sum(scores.values()) for m, x in scores.items()}


def slow_entropy(row: Sequence[float]) -> float:
    """Entropy of softmax(z) in nats."""
    total = sum(math.exp(z) for z in row)
    return -sum(math.exp(z) / total * math.log(math.exp(z) / total) for z in row)
