"""Who is curated when, once more, literally: numpy, one batch after another, nothing of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Pairs = Sequence[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Seen:
    """(weight, gradient) of the tensors of both branches, and of what carries the other into each."""

    main: Mapping[str, Pairs]
    bypass: Mapping[str, Pairs]


def speed(pairs: Pairs) -> float:
    gradients = sum(float((g.astype(np.float64) ** 2).sum()) for _, g in pairs)
    return gradients / sum(float((w.astype(np.float64) ** 2).sum()) for w, _ in pairs)


def slow_curation(batches: Sequence[Seen], *, epsilon: float, window: int, locked: int) -> list[str | None]:
    """The modality that is curated in each batch; no decision is taken in the first `locked`."""
    first, second = batches[0].main
    speeds = {name: {first: 0.0, second: 0.0} for name in ("main", "bypass")}
    curated: list[str | None] = []
    t = 0
    while t < len(batches):
        curated.append(None)
        for m in (first, second):
            speeds["main"][m] += speed(batches[t].main[m])
            speeds["bypass"][m] += speed(batches[t].bypass[m])
        t += 1
        ratio = {m: np.log10(speeds["bypass"][m] / speeds["main"][m]) for m in (first, second)}
        d = ratio[first] - ratio[second]
        if t > locked and abs(d) > epsilon:
            curated += [first if d > 0 else second] * window
            t += window
    return curated[: len(batches)]
