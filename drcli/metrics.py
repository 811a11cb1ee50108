"""Scores of a classifier: pure functions of logits, labels and row weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Scores:
    """Scores of one split.

    Attributes:
        accuracy: share of samples predicted right, in [0, 1].
        macro_f1: mean over classes of the F1 score, in [0, 1].
        loss: mean cross-entropy, in nats.
        n: number of samples (not of rows: a sample may be drawn several times).
    """

    accuracy: float
    macro_f1: float
    loss: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """The scores of the command line's contract."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "n": self.n}


def score(logits: Tensor, labels: Tensor, weight: Tensor) -> Scores:
    """Return the scores of predictions.

    Each row is predicted and scored alone; a sample's score is the mean over its rows.

    Args:
        logits: (N, C).
        labels: (N,) in [0, C).
        weight: (N,) one over the number of rows of the row's sample; they add up to the samples.
    """
    logits = logits.double()
    predicted = logits.argmax(dim=1)
    confusion = confusion_matrix(predicted, labels, weight, num_classes=logits.shape[1])
    total = weight.sum()
    losses = functional.cross_entropy(logits, labels, reduction="none")
    return Scores(
        accuracy=accuracy(predicted, labels, weight),
        macro_f1=macro_f1(confusion),
        loss=float((losses * weight).sum() / total),
        n=round(float(total)),
    )


def accuracy(predicted: Tensor, labels: Tensor, weight: Tensor) -> float:
    """Return the weighted share of rows predicted right; all arguments are (N,)."""
    return float((weight * (predicted == labels)).sum() / weight.sum())


def confusion_matrix(predicted: Tensor, labels: Tensor, weight: Tensor, *, num_classes: int) -> Tensor:
    """Return the (C, C) weights of (true class, predicted class)."""
    cells = labels * num_classes + predicted
    return torch.bincount(cells, weights=weight, minlength=num_classes**2).reshape(num_classes, num_classes)


def macro_f1(confusion: Tensor) -> float:
    """Return the unweighted mean of the F1 scores of the classes that occur as truth or prediction.

    Args:
        confusion: (C, C) weights of (true class, predicted class).
    """
    hits = confusion.diagonal()
    occurrences = confusion.sum(dim=0) + confusion.sum(dim=1)  # 2 TP + FP + FN
    occurring = occurrences > 0
    return float((2 * hits[occurring] / occurrences[occurring]).mean())
