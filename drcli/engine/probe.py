"""Linear probe: what a linear classifier reads from a frozen encoder's features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from drcli.data.prepared import Split
from drcli.engine.logistic import fit_path
from drcli.errors import RunError
from drcli.metrics import accuracy

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty to choose from, strongest penalty first."""

CPU = torch.device("cpu")


def probe_accuracy(features: Mapping[str, tuple[Tensor, Split]], split: str, *, device: torch.device = CPU) -> float:
    """Return the accuracy on a split of a standardised L2 logistic regression fitted on train.

    The penalty that does best on val is taken, the strongest of equals. Deterministic, without randomness:
    the same bits on one device with one number of threads. Elsewhere the logits differ by rounding, and the
    prediction of a row only where two classes tie to about three digits.

    Args:
        features: (N, D) features on the CPU and their split, for "train", "val" and `split`.
        split: the split to score.
        device: where the regression is fitted, in float64.

    Raises:
        RunError: a feature is not finite.
    """
    _check_finite(features)
    scaled = standardise({name: x.to(device, torch.float64) for name, (x, _) in features.items()})
    labels = features["train"][1].labels.to(device)
    best, result = -1.0, 0.0
    for classifier in fit_path(scaled["train"], labels, STRENGTHS):
        right = {name: _accuracy(classifier.predict(scaled[name]), features[name][1]) for name in {"val", split}}
        if right["val"] > best:
            best, result = right["val"], right[split]
    return result


def _check_finite(features: Mapping[str, tuple[Tensor, Split]]) -> None:
    for name, (x, _) in features.items():
        if not bool(x.isfinite().all()):
            raise RunError(f"the features of split {name} are not finite; train with a lower learning rate")


def standardise(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the features less their mean over train, in units of their standard deviation there."""
    train = features["train"]
    mean, std = train.mean(dim=0), train.std(dim=0, correction=0)
    # Features are computed in float32: a spread below its rounding is that of a constant, which says nothing.
    constant = std <= torch.finfo(torch.float32).eps * mean.abs()
    scale = torch.where(constant, 0.0, 1.0 / std)
    return {name: (x - mean) * scale for name, x in features.items()}


def _accuracy(predicted: Tensor, split: Split) -> float:
    return accuracy(predicted.cpu(), split.labels, split.weight)
