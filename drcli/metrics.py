"""Scores of a classifier and of its probabilities: pure functions of logits, labels and row weights.

Each row is predicted and scored alone; `weight` (N,) is one over the number of rows of the row's sample, so that a
sample counts once however often it was drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

BINS = 15
"""Bins of the expected calibration error, as in Guo et al."""

TEMPERATURES = (0.01, 100.0)
"""Where the temperature is looked for. Of a split that is predicted without an error, every small one is as good."""


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


def class_scores(confusion: Tensor) -> tuple[Tensor, Tensor]:
    """Return (C,) shares of each class's samples that are predicted right, NaN without samples, and (C,) their number.

    Args:
        confusion: (C, C) weights of (true class, predicted class).
    """
    support = confusion.sum(dim=1)
    return confusion.diagonal() / support, support


def balanced_accuracy(confusion: Tensor) -> float:
    """Return the unweighted mean, over the classes that have samples, of the share predicted right.

    Args:
        confusion: (C, C) weights of (true class, predicted class).
    """
    shares, support = class_scores(confusion)
    return float(shares[support > 0].mean())


@dataclass(frozen=True)
class Calibration:
    """How well probabilities p = softmax(z) agree with what comes out.

    Attributes:
        nll: negative log-likelihood, the mean of -log p_y, in nats.
        ece: expected calibration error (Guo et al., ICML 2017, equation 5): with the rows in BINS bins
            ((b - 1) / BINS, b / BINS] of their confidence max_c p_c, the sum over bins of
            |share predicted right - mean confidence|, weighted by the bin's share of the samples; in [0, 1].
        brier: the mean of sum_c (p_c - [y = c])^2 (Brier 1950, for several classes), in [0, 2].
    """

    nll: float
    ece: float
    brier: float


def calibration(logits: Tensor, labels: Tensor, weight: Tensor, temperature: float = 1.0) -> Calibration:
    """Return how well the probabilities softmax(z / T) agree with the labels.

    Args:
        logits: (N, C) z.
        labels: (N,) in [0, C).
        weight: (N,), see the head of this module.
        temperature: T > 0.
    """
    share = weight / weight.sum()
    logs = (logits.double() / temperature).log_softmax(dim=1)
    probabilities = logs.exp()
    confidence, predicted = probabilities.max(dim=1)
    truth = functional.one_hot(labels, logits.shape[1])
    return Calibration(
        nll=float(-(share * logs.gather(1, labels[:, None])[:, 0]).sum()),
        ece=_calibration_error(confidence, predicted == labels, share),
        brier=float((share * (probabilities - truth).square().sum(dim=1)).sum()),
    )


def _calibration_error(confidence: Tensor, right: Tensor, share: Tensor) -> float:
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    excess = torch.bincount(bins, weights=share * (right.double() - confidence), minlength=BINS)
    return float(excess.abs().sum())


def fit_temperature(logits: Tensor, labels: Tensor, weight: Tensor) -> float:
    """Return the temperature T in TEMPERATURES under which softmax(z / T) has the least negative log-likelihood.

    The likelihood is concave in 1 / T, so that there is one optimum (temperature scaling, Guo et al., ICML 2017,
    section 4.2). T > 1 says that the model is too sure of itself. Predictions do not change with it.

    Args:
        logits: (N, C) z, of the validation split.
        labels: (N,) in [0, C).
        weight: (N,), see the head of this module.
    """
    from scipy.optimize import minimize_scalar

    logits, share = logits.double(), weight / weight.sum()

    def loss(logarithm: float) -> float:
        losses = functional.cross_entropy(logits / math.exp(logarithm), labels, reduction="none")
        return float((share * losses).sum())

    limits = tuple(map(math.log, TEMPERATURES))
    return math.exp(minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-7}).x)
