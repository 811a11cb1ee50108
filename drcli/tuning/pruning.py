"""Which trials are stopped early: the median rule, the same for every method.

A run of a trial is compared with the runs of the same name and seed in earlier trials of its method, by the best
accuracy on validation so far. What these are is settled before the run begins: trials of earlier rounds, see
`drcli.tuning.study`. So neither a kill nor what runs at once changes which runs are stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from statistics import median

LEAST = 4
"""Earlier trials that a comparison needs."""

SPARED = 4
"""The first 1 / SPARED of a run's epochs, rounded up, stops none."""


def floors(earlier: Sequence[Sequence[float]], epochs: int) -> tuple[float, ...]:
    """Return for each epoch the best accuracy so far below which a run is stopped after it; 0 stops none.

    After epoch e a run is stopped if max over e' <= e of a(e') is below the median over earlier trials k of
    max over e' <= e of a_k(e') (Golovin et al., "Google Vizier", KDD 2017, section 3.2.2, by the best instead of the
    mean). A trial that was stopped itself counts with the best that it reached.

    Args:
        earlier: accuracies on validation by epoch of the run in each earlier trial; empty: it failed.
        epochs: E of the run; nothing is stopped after the last one.

    Returns:
        E accuracies, none of a run that nothing can stop.
    """
    if len(earlier) < LEAST or epochs < 2:
        return ()
    best = [list(accumulate(curve, max)) or [0.0] for curve in earlier]
    spared = -(-epochs // SPARED)
    return tuple(
        median(curve[min(epoch, len(curve) - 1)] for curve in best) if spared <= epoch + 1 < epochs else 0.0
        for epoch in range(epochs)
    )
