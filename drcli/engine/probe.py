"""Linear probe: what a logistic regression with an L2 penalty, fitted for several strengths, reads from features.

The objective of scikit-learn's `LogisticRegression` for three classes or more, divided by C N:

    f(W) = 1/N sum_i CE(softmax(W' x_i), y_i) + penalty / 2 |W without its intercept|^2,    penalty = 1 / (C N).

It is convex and has one optimum. For two classes scikit-learn fits one vector, the difference of our two:
our C is half of its own there.

Shapes: N rows of D features, K classes; weights are (D + 1, K), their last row the intercept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from drcli.data.prepared import Split
from drcli.errors import RunError
from drcli.metrics import accuracy

TOLERANCE = 1e-8  # estimated excess over the minimum, as a share of the objective
MAX_STEPS = 1000
MAX_HALVINGS = 30
MEMORY = 10  # steps that L-BFGS remembers
FLOOR = 1e-6  # curvature of the intercept, which has no penalty, where every probability is 0 or 1
SUFFICIENT = 1e-4  # share of the decrease that the slope promises (Armijo's condition)

Objective = Callable[[Tensor], tuple[float, Tensor]]
"""Maps a point to the value and the gradient, of the point's shape."""

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Inverse strengths of the L2 penalty to choose from, strongest penalty first."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class LinearClassifier:
    """A fitted classifier.

    Attributes:
        weights: (D + 1, K).
        classes: (K,) int64, the labels that occurred, ascending.
    """

    weights: Tensor
    classes: Tensor

    def probabilities(self, features: Tensor) -> Tensor:
        """Return the probability (N, K) of every class for features (N, D)."""
        return (features @ self.weights[:-1] + self.weights[-1]).softmax(dim=1)

    def predict(self, features: Tensor) -> Tensor:
        """Return the label (N,) of the likeliest class of features (N, D)."""
        return self.classes[self.probabilities(features).argmax(dim=1)]


def fit_path(features: Tensor, labels: Tensor, strengths: Iterable[float]) -> Iterator[LinearClassifier]:
    """Yield the classifier of each inverse strength C.

    Each fit starts where the two before it point to. That only saves steps, most of them if the strengths
    rise in equal factors: the optimum does not depend on the start. Nothing is drawn at random; one device
    and number of threads give the same bits, and others differ by rounding within TOLERANCE.

    Args:
        features: (N, D), finite, float64: float32 cannot resolve TOLERANCE. The fit runs on their device.
        labels: (N,) int64, on the same device.
        strengths: each > 0.
    """
    classes, targets = torch.unique(labels, return_inverse=True)
    rows = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    wanted = functional.one_hot(targets, len(classes)).T.to(rows.dtype, memory_format=torch.contiguous_format)
    before = weights = rows.new_zeros(rows.shape[1], len(classes))
    for strength in strengths:
        problem = Problem(rows, wanted, 1.0 / (strength * len(rows)))
        before, weights = weights, problem.solve(2 * weights - before)
        yield LinearClassifier(weights, classes)


@dataclass(frozen=True)
class Problem:
    """One fit.

    Attributes:
        rows: (N, D + 1), the last column ones.
        wanted: (K, N), one-hot labels.
        penalty: 1 / (C N).
    """

    rows: Tensor
    wanted: Tensor
    penalty: float

    def objective(self, weights: Tensor) -> tuple[float, Tensor]:
        """Return f(W) and its gradient (D + 1, K)."""
        # A class per row: so both products read `rows` along its memory, which takes half the time on a CPU.
        logs = (weights.T @ self.rows.T).log_softmax(dim=0)
        penalised = weights.clone()
        penalised[-1] = 0.0
        value = -(self.wanted * logs).sum() / len(self.rows) + self.penalty / 2 * penalised.square().sum()
        residuals = logs.exp_().sub_(self.wanted)
        gradient = (residuals @ self.rows).T / len(self.rows) + self.penalty * penalised
        return float(value), gradient

    def curvature(self, weights: Tensor) -> Tensor:
        """Return a positive definite (D + 1, D + 1) that stands for the Hessian of every class.

        The Hessian holds diag(p) - pp' of each row. Its place takes its mean eigenvalue over the directions
        in which the classes' logits do not all rise alike, (1 - |p|^2) / (K - 1): exact at W = 0 and for K = 2.
        """
        p = (self.rows @ weights).softmax(dim=1)
        spread = (1.0 - p.square().sum(dim=1)) / max(1, p.shape[1] - 1) / len(p)
        hessian = self.rows.T @ (self.rows * spread[:, None])
        hessian.diagonal()[:-1].add_(self.penalty)
        hessian[-1, -1] += FLOOR
        return hessian

    def solve(self, start: Tensor) -> Tensor:
        """Return the optimal weights, found in coordinates in which the curvature at `start` is about 1."""
        lower = torch.linalg.cholesky(self.curvature(start))

        def weights(point: Tensor) -> Tensor:
            solved: Tensor = torch.linalg.solve_triangular(lower.T, point, upper=True)
            return solved

        def objective(point: Tensor) -> tuple[float, Tensor]:
            value, gradient = self.objective(weights(point))
            return value, torch.linalg.solve_triangular(lower, gradient, upper=False)

        return weights(minimise(objective, lower.T @ start))


def minimise(objective: Objective, start: Tensor) -> Tensor:
    """Return the minimiser of a smooth, convex, non-negative function.

    L-BFGS (Nocedal, Wright, Numerical Optimization, 2006, algorithm 7.5) with steps halved until they
    descend. It ends where half the slope along the Newton-like direction, the decrease yet to come, is
    at most TOLERANCE of the value, or where no step descends any more.
    """
    point = start
    value, gradient = objective(point)
    history: deque[_Step] = deque(maxlen=MEMORY)
    for _ in range(MAX_STEPS):
        direction = -_apply_inverse_hessian(history, gradient)
        slope = float(_dot(gradient, direction))
        if -slope / 2 <= TOLERANCE * value:
            break
        for halvings in range(MAX_HALVINGS):
            length = 0.5**halvings
            moved = point + length * direction
            new_value, new_gradient = objective(moved)
            if new_value <= value + SUFFICIENT * length * slope:
                break
        else:
            break
        history.append(_Step.between(point, moved, gradient, new_gradient))
        point, value, gradient = moved, new_value, new_gradient
    return point


@dataclass(frozen=True)
class _Step:
    """A step s, the change y of the gradient along it, and s'y > 0."""

    moved: Tensor
    change: Tensor
    product: Tensor

    @classmethod
    def between(cls, point: Tensor, other: Tensor, gradient: Tensor, other_gradient: Tensor) -> _Step:
        moved, change = other - point, other_gradient - gradient
        return cls(moved, change, _dot(moved, change))


def _apply_inverse_hessian(history: deque[_Step], gradient: Tensor) -> Tensor:
    """Return the gradient times what the remembered steps tell of the inverse Hessian (algorithm 7.4)."""
    result, shares = gradient, []
    for step in reversed(history):
        shares.append(_dot(step.moved, result) / step.product)
        result = result - shares[-1] * step.change
    if history:
        last = history[-1]
        result = result * (last.product / _dot(last.change, last.change))
    for step, share in zip(history, reversed(shares), strict=True):
        result = result + (share - _dot(step.change, result) / step.product) * step.moved
    return result


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())


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
    scaled = scaled_on(device, features)
    labels = features["train"][1].labels.to(device)
    best, result = -1.0, 0.0
    for classifier in fit_path(scaled["train"], labels, STRENGTHS):
        right = {name: _accuracy(classifier.predict(scaled[name]), features[name][1]) for name in {"val", split}}
        if right["val"] > best:
            best, result = right["val"], right[split]
    return result


def concatenated(
    features: Mapping[str, tuple[Mapping[str, Tensor], Split]],
) -> dict[str, tuple[Tensor, Split]]:
    """Return features of all modalities side by side, (N, sum of D_m), for a probe that sees what a fusion sees.

    In the order of the modalities' names, so that the result does not depend on that of the recipe.

    Args:
        features: {m: (N, D_m)} and their split, by name of the split.
    """
    return {name: (torch.cat([x[m] for m in sorted(x)], dim=1), split) for name, (x, split) in features.items()}


def scaled_on(device: torch.device, features: Mapping[str, tuple[Tensor, Split]]) -> dict[str, Tensor]:
    """Return features in float64 on a device, standardised by the statistics of train.

    Raises:
        RunError: a feature is not finite.
    """
    for name, (x, _) in features.items():
        if not bool(x.isfinite().all()):
            raise RunError(f"the features of split {name} are not finite; train with a lower learning rate")
    return standardise({name: x.to(device, torch.float64) for name, (x, _) in features.items()})


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
