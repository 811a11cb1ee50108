"""Scores against scikit-learn, brute force and other solvers, rows weighted by the draws of their sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, brier_score_loss, f1_score, log_loss
from torch import Tensor

from drcli.metrics import (
    TEMPERATURES,
    Scores,
    accuracy,
    balanced_accuracy,
    calibration,
    class_scores,
    confusion_matrix,
    fit_temperature,
    macro_f1,
    score,
)


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels, and weights of 40 samples with 1, 2, 3 or 4 draws each: 100 rows."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.arange(40) % 4 + 1
    labels = (torch.arange(40) % 5).repeat_interleave(draws)
    logits = torch.randn(100, 5, generator=generator) + torch.nn.functional.one_hot(labels, 5)
    return logits, labels, 1.0 / draws.double().repeat_interleave(draws)


def test_scores_are_scikit_learns(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weight = drawn
    found = score(logits, labels, weight)
    predicted, probabilities = logits.argmax(dim=1), logits.double().softmax(dim=1).numpy()
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted, sample_weight=weight))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, sample_weight=weight, average="macro"))
    assert found.loss == pytest.approx(log_loss(labels, probabilities, sample_weight=weight))
    assert found.n == 40
    assert found.accuracy != pytest.approx(accuracy_score(labels, predicted), abs=1e-6)


def test_a_samples_score_is_the_mean_over_its_draws() -> None:
    """Sample 1 is right in 1 of 2 draws, sample 2 in its only one: (1/2 + 1) / 2."""
    predicted, labels = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    weight = torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64)
    assert accuracy(predicted, labels, weight) == 0.75


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize(
    ("labels", "predicted"),
    [
        ([0, 0, 1, 1], [0, 1, 1, 1]),  # classes 2 and 3 occur nowhere
        ([0, 0, 1, 1], [0, 3, 1, 1]),  # 3 is only predicted: its F1 is 0 and counts
        ([0, 2, 1, 1], [0, 0, 1, 1]),  # 2 is never predicted: its F1 is 0 and counts
        ([3, 3], [3, 3]),
    ],
)
def test_macro_f1_counts_the_classes_that_occur(labels: list[int], predicted: list[int]) -> None:
    weight = torch.ones(len(labels), dtype=torch.float64)
    confusion = confusion_matrix(torch.tensor(predicted), torch.tensor(labels), weight, num_classes=4)
    assert macro_f1(confusion) == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))


def test_the_confusion_matrix_has_the_truth_in_rows() -> None:
    weight = torch.tensor([1.0, 0.5], dtype=torch.float64)
    found = confusion_matrix(torch.tensor([1, 1]), torch.tensor([0, 1]), weight, num_classes=2)
    assert found.tolist() == [[0.0, 1.0], [0.0, 0.5]]


def test_the_contract_names_three_scores() -> None:
    found = Scores(accuracy=0.5, macro_f1=0.25, loss=2.0, n=4).to_dict()
    assert found == {"accuracy": 0.5, "macro_f1": 0.25, "n": 4}


def test_balanced_accuracy_is_scikit_learns(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weight = drawn
    predicted = logits.argmax(dim=1)
    found = balanced_accuracy(confusion_matrix(predicted, labels, weight, num_classes=5))
    assert found == pytest.approx(balanced_accuracy_score(labels, predicted, sample_weight=weight))


def test_a_class_without_samples_has_no_accuracy_and_no_part_in_the_balanced_one() -> None:
    """Class 0: 1 of 2 right, class 1: 1 of 1, class 2 is predicted once and never true: (1/2 + 1) / 2."""
    confusion = confusion_matrix(torch.tensor([0, 2, 1]), torch.tensor([0, 0, 1]), torch.ones(3), num_classes=3)
    shares, support = class_scores(confusion)
    assert shares[:2].tolist() == [0.5, 1.0]
    assert shares[2].isnan()
    assert support.tolist() == [2.0, 1.0, 0.0]
    assert balanced_accuracy(confusion) == 0.75


def brute_force_ece(probabilities: NDArray[Any], labels: NDArray[Any], weight: NDArray[Any]) -> float:
    """Bin by bin, row by row, as the paper says it."""
    total = 0.0
    for low, high in pairwise(np.linspace(0, 1, 16)):
        inside = [n for n in range(len(labels)) if low < probabilities[n].max() <= high]
        mass = sum(weight[n] for n in inside)
        if mass:
            right = sum(weight[n] * (probabilities[n].argmax() == labels[n]) for n in inside) / mass
            sure = sum(weight[n] * probabilities[n].max() for n in inside) / mass
            total += mass / weight.sum() * abs(right - sure)
    return total


@pytest.mark.parametrize("temperature", [1.0, 0.4, 3.0])
def test_calibration_is_that_of_scikit_learn_and_of_brute_force(
    drawn: tuple[Tensor, Tensor, Tensor], temperature: float
) -> None:
    logits, labels, weight = drawn
    found = calibration(logits, labels, weight, temperature)
    scaled = np.exp(logits.double().numpy() / temperature)
    probabilities = scaled / scaled.sum(axis=1, keepdims=True)
    assert found.nll == pytest.approx(log_loss(labels, probabilities, sample_weight=weight))
    assert found.ece == pytest.approx(brute_force_ece(probabilities, labels.numpy(), weight.numpy()))
    squares = ((probabilities - np.eye(5)[labels]) ** 2).sum(axis=1)
    assert found.brier == pytest.approx(np.average(squares, weights=weight))


def test_the_brier_score_of_two_classes_is_twice_scikit_learns() -> None:
    logits, labels = torch.tensor([[0.3, 0.0], [1.0, -1.0], [0.0, 2.0]]), torch.tensor([0, 1, 1])
    found = calibration(logits, labels, torch.ones(3))
    assert found.brier == pytest.approx(2 * brier_score_loss(labels, logits.softmax(dim=1)[:, 1]))


def test_a_certain_model_that_is_right_half_the_time_is_off_by_a_half() -> None:
    """Confidence 1 in both rows, one of them right: ECE 1/2, Brier (0 + 2) / 2."""
    found = calibration(torch.tensor([[200.0, 0.0], [200.0, 0.0]]), torch.tensor([0, 1]), torch.ones(2))
    assert (found.ece, found.brier, found.nll) == pytest.approx((0.5, 1.0, 100.0))


def test_the_temperature_is_where_the_slope_of_the_likelihood_is_zero(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    """d NLL / d(1 / T) is the mean of sum_c p_c z_c - z_y: its root, by another solver."""
    logits, labels, weight = drawn
    plain, truth = logits.double().numpy(), labels.numpy()

    def slope(inverse: float) -> float:
        excess = (softmax(plain * inverse, axis=1) * plain).sum(axis=1) - plain[np.arange(len(plain)), truth]
        return float(np.average(excess, weights=weight))

    assert fit_temperature(logits, labels, weight) == pytest.approx(1 / brentq(slope, 0.01, 100), rel=1e-8)


def test_the_temperature_undoes_a_factor(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, labels, weight = drawn
    plain, tripled = (fit_temperature(factor * logits, labels, weight) for factor in (1.0, 3.0))
    assert tripled == pytest.approx(3 * plain, rel=1e-4)
    assert calibration(3 * logits, labels, weight, tripled).nll < calibration(3 * logits, labels, weight).nll


def test_the_temperature_of_a_split_without_an_error_stays_above_zero() -> None:
    """The likelihood has no optimum: any small T makes it 1."""
    logits, labels, weight = 8 * torch.eye(3), torch.arange(3), torch.ones(3)
    found = fit_temperature(logits, labels, weight)
    assert TEMPERATURES[0] <= found < 1
    assert calibration(logits, labels, weight, found).nll == pytest.approx(0, abs=1e-12)
