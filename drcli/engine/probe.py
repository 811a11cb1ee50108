"""Linear probe: what a linear classifier reads from a frozen encoder's features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from drcli.data.prepared import Split
from drcli.metrics import accuracy

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty to choose from, strongest penalty first."""


def probe_accuracy(features: Mapping[str, tuple[Tensor, Split]], split: str) -> float:
    """Return the accuracy on a split of a standardised L2 logistic regression fitted on train.

    The penalty that does best on val is taken, the strongest of equals. Deterministic: no randomness,
    and one thread, so that the result does not depend on their number.

    Args:
        features: (N, D) features and their split, for "train", "val" and `split`.
        split: the split to score.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    train, labels = features["train"][0].double(), features["train"][1].labels
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    # Features are computed in float32: a spread below its rounding is that of a constant, which says nothing.
    constant = std <= torch.finfo(torch.float32).eps * mean.abs()
    scale = torch.where(constant, 0.0, 1.0 / std)
    scaled = {name: ((x.double() - mean) * scale).numpy() for name, (x, _) in features.items()}
    best, result = -1.0, 0.0
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a fit stopped by max_iter is a valid candidate
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=300).fit(scaled["train"], labels.numpy())
            right = {
                name: _accuracy(torch.from_numpy(model.predict(scaled[name])), features[name][1])
                for name in {"val", split}
            }
            if right["val"] > best:
                best, result = right["val"], right[split]
    return result


def _accuracy(predicted: Tensor, split: Split) -> float:
    return accuracy(predicted, split.labels, split.weight)
