"""Scores against scikit-learn, rows weighted by the draws of their sample."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor

from drcli.metrics import Scores, accuracy, confusion_matrix, macro_f1, score


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
