"""Scores of a regression against numpy, scipy and scikit-learn, rows weighted by the draws of their sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, mean_absolute_error
from torch import Tensor
from torch.nn import functional

from drcli.methods.parts.criterion import criterion
from drcli.metrics import correlation, score_values, sentiment, weighted_f1
from drcli.task import LossName


@pytest.fixture
def drawn() -> tuple[Tensor, Tensor, Tensor]:
    """Predictions, targets in [-3, 3] with zeros, and weights of 40 samples with 1 to 4 draws each: 100 rows."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.arange(40) % 4 + 1
    targets = ((torch.arange(40) * 7 % 31 - 15) / 5).repeat_interleave(draws)
    values = 1.4 * targets + torch.randn(100, generator=generator)
    return values, targets, 1.0 / draws.double().repeat_interleave(draws)


def test_mae_and_correlation_are_those_of_numpy(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    values, targets, weight = drawn
    found = score_values(values, targets, weight)
    assert found.mae == pytest.approx(mean_absolute_error(targets, values.double(), sample_weight=weight))
    expected = np.cov(values.double(), targets.double(), aweights=weight)
    assert found.corr == pytest.approx(expected[0, 1] / np.sqrt(expected[0, 0] * expected[1, 1]))
    assert found.corr != pytest.approx(pearsonr(values, targets)[0], abs=1e-6)  # which counts each draw
    alike = score_values(values, targets, torch.ones(100, dtype=torch.float64))
    assert alike.corr == pytest.approx(pearsonr(values.double(), targets.double())[0])
    assert (found.n, alike.n) == (40, 100)


def test_scores_worked_by_hand() -> None:
    """Errors 1, 0 and 2; deviations (-1, 0, 1) and (-1, -1, 2): r = 3 / sqrt(2 * 6)."""
    found = score_values(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 4.0]), torch.ones(3).double())
    assert found.mae == pytest.approx(1.0)
    assert found.corr == pytest.approx(3 / np.sqrt(2 * 6))
    assert found.to_dict() == {"mae": found.mae, "corr": found.corr, "n": 3}


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_has_no_correlation(constant: int) -> None:
    columns = [torch.linspace(-1, 1, 7).double(), torch.linspace(-1, 1, 7).double()]
    columns[constant] = torch.full((7,), 0.1).double()
    assert correlation(columns[0], columns[1], torch.full((7,), 1 / 7).double()) is None


@pytest.mark.filterwarnings("ignore:Since the weights")
def test_accuracies_are_those_of_scikit_learn(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    values, targets, weight = drawn
    found = sentiment(values, targets, weight)
    true, guess = targets.numpy(), values.numpy()
    for key, chosen, a, b in (
        ("", np.isfinite(true), true >= 0, guess >= 0),
        ("_nonzero", true != 0, true > 0, guess > 0),
    ):
        labels, predicted, share = a[chosen], b[chosen], weight.numpy()[chosen]
        assert getattr(found, f"acc2{key}") == pytest.approx(accuracy_score(labels, predicted, sample_weight=share))
        expected = f1_score(labels, predicted, sample_weight=share, average="weighted")
        assert getattr(found, f"f1{key}") == pytest.approx(expected)
    for most in (2, 3):
        rounded = [np.round(np.clip(x, -most, most)).astype(int) for x in (true, guess)]
        expected = accuracy_score(*rounded, sample_weight=weight)
        assert getattr(found, f"acc{2 * most + 1}") == pytest.approx(expected)
    assert (true == 0).any()
    assert np.abs(guess).max() > 3


def test_accuracies_worked_by_hand() -> None:
    """Targets -3, -1, 0, 0.5, 2.6; halves are rounded to even, so that 0.5 is 0 and 2.5 is 2."""
    targets, values = torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.6]), torch.tensor([-5.0, 0.2, -0.1, 0.4, 2.5])
    found = sentiment(values, targets, torch.ones(5).double())
    assert found.acc2 == pytest.approx(3 / 5)  # 0.2 for -1 and -0.1 for 0 are wrong
    assert found.acc2_nonzero == pytest.approx(3 / 4)
    assert found.acc7 == pytest.approx(3 / 5)  # -5 is cut to -3; 0.2 is not -1, and 2.5 not 3
    assert found.acc5 == pytest.approx(4 / 5)  # cut to 2, 2.5 and 2.6 are the same


def test_targets_of_zero_alone_have_no_sign_to_be_right_about() -> None:
    found = sentiment(torch.tensor([0.3, -0.3]), torch.zeros(2), torch.ones(2).double())
    assert (found.acc2, found.acc2_nonzero, found.f1_nonzero) == (0.5, None, None)


def test_weighted_f1_is_that_of_scikit_learn_where_a_class_is_never_right() -> None:
    labels, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 0, 2, 2, 0])
    confusion = torch.from_numpy(confusion_matrix(labels, predicted)).double()
    assert weighted_f1(confusion) == pytest.approx(f1_score(labels, predicted, average="weighted"))


@pytest.mark.parametrize("loss", ["l1", "mse", "smooth_l1"])
def test_the_loss_is_the_mean_over_the_rows_that_count(loss: LossName) -> None:
    values, targets = torch.tensor([[0.5], [2.0], [-1.0]]), torch.tensor([0.0, 0.0, 1.0])
    each = {"l1": [0.5, 2.0, 2.0], "mse": [0.25, 4.0, 4.0], "smooth_l1": [0.125, 1.5, 1.5]}[loss]
    assert float(criterion(loss, values, targets)) == pytest.approx(np.mean(each))
    rows = torch.tensor([True, True, False])
    assert float(criterion(loss, values, targets, rows)) == pytest.approx(np.mean(each[:2]))
    assert float(criterion(loss, values, targets, torch.zeros(3, dtype=torch.bool))) == 0
    assert score_values(values[:, 0], targets, torch.ones(3).double(), loss).loss == pytest.approx(np.mean(each))


def test_without_a_loss_it_is_the_cross_entropy() -> None:
    logits, labels = torch.tensor([[0.5, 1.0], [2.0, -1.0]]), torch.tensor([1, 1])
    assert torch.equal(criterion(None, logits, labels), functional.cross_entropy(logits, labels))
    rows = torch.tensor([False, True])
    assert float(criterion(None, logits, labels, rows)) == pytest.approx(float(np.log(1 + np.exp(3))))
