"""Ridge regression on features: the linear probe of a regression.

    f(w, b) = 1/N sum_i (w' x_i + b - y_i)^2 + penalty |w|^2

of features that are standardised by training statistics. It has a closed form, which one eigendecomposition of the
features' covariance gives for every penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from drcli.data.prepared import Split
from drcli.engine.probe import CPU, scaled_on
from drcli.metrics import ValueScores, score_values

PENALTIES = (100.0, 10.0, 1.0, 1e-1, 1e-2, 1e-3)
"""Penalties to choose from, the strongest first."""


def ridge_path(features: Tensor, targets: Tensor, penalties: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights (D,) and intercept () of each penalty.

    Args:
        features: (N, D), float64, of mean 0.
        targets: (N,), float64.
        penalties: each > 0.
    """
    mean = targets.mean()
    eigenvalues, vectors = torch.linalg.eigh(features.T @ features / len(features))
    turned = vectors.T @ (features.T @ (targets - mean)) / len(features)
    for penalty in penalties:
        yield vectors @ (turned / (eigenvalues.clamp(min=0) + penalty)), mean


def probe_values(
    features: Mapping[str, tuple[Tensor, Split]], split: str, *, device: torch.device = CPU
) -> ValueScores:
    """Return the scores on a split of a ridge regression fitted on train.

    The penalty with the least mean absolute error on val is taken, the strongest of equals. Nothing is drawn at random.

    Args:
        features: (N, D) features on the CPU and their split, for "train", "val" and `split`.
        split: the split to score.
        device: where the regression is fitted, in float64.

    Raises:
        RunError: a feature is not finite.
    """
    scaled = scaled_on(device, features)
    targets = features["train"][1].labels.to(device, torch.float64)
    tried = [
        {name: _scores(scaled[name] @ w + b, features[name][1]) for name in {"val", split}}
        for w, b in ridge_path(scaled["train"], targets, PENALTIES)
    ]
    return min(tried, key=lambda found: found["val"].mae)[split]


def _scores(values: Tensor, split: Split) -> ValueScores:
    return score_values(values.cpu(), split.labels, split.weight)
