"""Scores of a classifier, of its probabilities, and of a regression: pure functions of outputs, labels and row weights.

Each row is predicted and scored alone; `weight` (N,) is one over the number of rows of the row's sample, so that a
sample counts once however often it was drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drcli.task import LossName

BINS = 15
"""Bins of the expected calibration error, as in Guo et al."""

TEMPERATURES = (0.01, 100.0)
"""Where the temperature is looked for. Of a split that is predicted without an error, every small one is as good."""

_MOST_STEPS, _TOLERANCE = 100, 1e-9


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
    section 4.2), found by Newton's method between the limits. scipy's minimiser finds the same, but its import takes
    almost a second of every command. T > 1 says that the model is too sure of itself; predictions do not change.

    Args:
        logits: (N, C) z, of the validation split.
        labels: (N,) in [0, C).
        weight: (N,), see the head of this module.
    """
    logits, share = logits.double(), weight / weight.sum()
    truth = logits.gather(1, labels[:, None])[:, 0]
    inverse, low, high = 1.0, 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    for _ in range(_MOST_STEPS):
        slope, curvature = _slopes(logits, truth, share, inverse)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        last, inverse = inverse, inverse - slope / curvature if curvature > 0 else high
        if not low < inverse < high:
            inverse = math.sqrt(low * high)
        if abs(inverse - last) <= _TOLERANCE * last:
            break
    return 1 / inverse


def _slopes(logits: Tensor, truth: Tensor, share: Tensor, inverse: float) -> tuple[float, float]:
    """Return the first and the second derivative of the negative log-likelihood in 1 / T."""
    probabilities = (logits * inverse).softmax(dim=1)
    mean = (probabilities * logits).sum(dim=1)
    variance = (probabilities * (logits - mean[:, None]).square()).sum(dim=1)
    return float((share * (mean - truth)).sum()), float((share * variance).sum())


@dataclass(frozen=True)
class ValueScores:
    """Scores of one split of a regression.

    Attributes:
        mae: mean absolute error, in the units of the target.
        corr: Pearson's correlation of predictions and targets, in [-1, 1]; None where one of them is constant.
        loss: the mean loss.
        n: number of samples (not of rows: a sample may be drawn several times).
    """

    mae: float
    corr: float | None
    loss: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """The scores of the command line's contract."""
        return {"mae": self.mae, "corr": self.corr, "n": self.n}


def value_losses(loss: LossName, values: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each row (B,) of values (B,) and targets (B,).

    With e = value - target: |e| (l1), e^2 (mse), or e^2 / 2 where |e| < 1 and else |e| - 1/2 (smooth_l1).
    """
    if loss == "mse":
        return functional.mse_loss(values, targets, reduction="none")
    if loss == "smooth_l1":
        return functional.smooth_l1_loss(values, targets, reduction="none")
    return functional.l1_loss(values, targets, reduction="none")


def score_values(values: Tensor, targets: Tensor, weight: Tensor, loss: LossName = "l1") -> ValueScores:
    """Return the scores of predicted values.

    Args:
        values: (N,).
        targets: (N,).
        weight: (N,), see the head of this module.
        loss: whose mean is wanted.
    """
    values, targets = values.double(), targets.double()
    share = weight / weight.sum()
    return ValueScores(
        mae=float((share * (values - targets).abs()).sum()),
        corr=correlation(values, targets, share),
        loss=float((share * value_losses(loss, values, targets)).sum()),
        n=round(float(weight.sum())),
    )


def correlation(values: Tensor, targets: Tensor, share: Tensor) -> float | None:
    """Return Pearson's r = cov(a, b) / sqrt(var(a) var(b)) of two columns (N,); None where one of them is constant.

    Args:
        values: a.
        targets: b.
        share: (N,) weights that add up to 1.
    """
    a, b = ((x - (share * x).sum()) * (x.max() > x.min()) for x in (values, targets))
    spread = float(((share * a.square()).sum() * (share * b.square()).sum()).sqrt())
    return min(max(float((share * a * b).sum()) / spread, -1.0), 1.0) if spread > 0 else None


@dataclass(frozen=True)
class Sentiment:
    """The usual accuracies of predicted sentiments in [-3, 3] (Tsai et al., ACL 2019, arXiv 1906.00295, and after).

    Attributes:
        acc2: share of samples whose predicted sign is right: negative, or not negative.
        f1: the F1 scores of these two classes, weighted by their samples.
        acc2_nonzero: the same of negative and positive, over the samples whose target is not 0; None without any.
        f1_nonzero: its weighted F1.
        acc5: share of samples that round to their target's whole number (half to even), both cut to [-2, 2].
        acc7: the same, both cut to [-3, 3].
    """

    acc2: float
    f1: float
    acc2_nonzero: float | None
    f1_nonzero: float | None
    acc5: float
    acc7: float


def sentiment(values: Tensor, targets: Tensor, weight: Tensor) -> Sentiment:
    """Return the usual accuracies of sentiments (N,), predicted and true; `weight` as in the head of this module."""
    acc2, f1 = _two_classes(values >= 0, targets >= 0, weight)
    signed = targets != 0
    nonzero: tuple[float | None, float | None] = (None, None)
    if signed.any():
        nonzero = _two_classes(values[signed] > 0, targets[signed] > 0, weight[signed])
    acc5, acc7 = (
        accuracy(values.clamp(-most, most).round(), targets.clamp(-most, most).round(), weight) for most in (2, 3)
    )
    return Sentiment(acc2, f1, nonzero[0], nonzero[1], acc5, acc7)


def _two_classes(predicted: Tensor, labels: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return accuracy and weighted F1 of two classes, (N,) bool each."""
    confusion = confusion_matrix(predicted.long(), labels.long(), weight, num_classes=2)
    return accuracy(predicted, labels, weight), weighted_f1(confusion)


def weighted_f1(confusion: Tensor) -> float:
    """Return the mean of the classes' F1 scores, each weighted by the samples of the class.

    Args:
        confusion: (C, C) weights of (true class, predicted class).
    """
    occurrences = confusion.sum(dim=0) + confusion.sum(dim=1)  # 2 TP + FP + FN
    scores = 2 * confusion.diagonal() / occurrences.clamp(min=torch.finfo(occurrences.dtype).tiny)
    support = confusion.sum(dim=1)
    return float((scores * support).sum() / support.sum())
