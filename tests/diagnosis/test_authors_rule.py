"""Ours against the authors' rule on the same features: equal to rounding, whatever their type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from reference.authors_diagnosis import authors_rule
from sklearn.preprocessing import MinMaxScaler

from drcli.diagnosis import MeasureSettings, diagnose_modality
from drcli.diagnosis.clustering import in_precision, scale_features

CLASSES = 6
FROZEN = {
    (0, 1): (0.9933333333333333, 0.8, 0.19333333333333325, 0.5226654296858206),
    (0, 10): (0.9933333333333333, 0.9666666666666667, 0.026666666666666616, 0.07982976911113121),
    (1, 1): (0.98, 0.7916666666666666, 0.18833333333333335, 0.5116777981895941),
    (2, 1): (0.8166666666666667, 0.8916666666666667, 0.07500000000000007, 0.22127846789844416),
    (2, 10): (0.9933333333333333, 0.9416666666666667, 0.05166666666666664, 0.15377052226409257),
}
"""What the authors' rule gives, by seed of the features and number of K-means runs."""


def features(seed: int, rows: int, spread: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Overlapping clouds, one per class, in 20 dimensions of unlike units."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, 20))
    labels = np.arange(rows) % CLASSES
    units = 10.0 ** np.linspace(-3, 3, 20)
    return (centres[labels] + spread * generator.normal(size=(rows, 20))) * units, labels


def both(seed: int) -> tuple[Any, Any]:
    return features(seed, 300, 0.9), features(seed + 100, 120, 1.2)


@pytest.mark.parametrize("key", FROZEN)
def test_purities_gap_and_strength_are_the_authors(key: tuple[int, int]) -> None:
    seed, restarts = key
    train, val = both(seed)
    expected = authors_rule(train, val, CLASSES, 3.0, restarts)
    found = diagnose_modality(
        *map(torch.from_numpy, (*train, *val)),
        num_classes=CLASSES,
        settings=MeasureSettings(restarts=restarts, kmeans="sklearn"),
        lambda_=3.0,
    )
    ours = (found.purity_train, found.purity_val, found.gap, found.strength)
    assert ours == pytest.approx(expected, abs=1e-12)
    assert ours == pytest.approx(FROZEN[key], abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6])
def test_features_in_single_precision_are_clustered_in_double(seed: int) -> None:
    """On a grid, where many points lie between two centres: in single precision half of these purities differ."""
    generator = np.random.default_rng(seed)
    grids = [generator.integers(0, 4, size=(200, 3)).astype(np.float32) for _ in range(2)]
    labels = np.arange(200) % CLASSES
    train, val = ((grid.astype(np.float64), labels) for grid in grids)
    expected = authors_rule(train, val, CLASSES, 3.0)
    x, y = map(torch.from_numpy, grids)
    of = torch.from_numpy(labels)
    settings = MeasureSettings(restarts=1)
    found = diagnose_modality(x, of, y, of, num_classes=CLASSES, settings=settings, lambda_=3.0)
    assert (found.purity_train, found.purity_val, found.gap, found.strength) == pytest.approx(expected, abs=1e-12)


def test_scaling_in_double_precision_is_scikit_learns_bit_for_bit() -> None:
    x = np.random.default_rng(0).normal(size=(50, 7)) * 10.0 ** np.arange(-3, 4)
    expected = MinMaxScaler((-1, 1)).fit_transform(x)
    assert np.array_equal(scale_features(torch.from_numpy(x)).numpy(), expected)


def test_a_dimension_that_is_constant_but_for_rounding_in_single_precision_stays_so_in_double() -> None:
    x = torch.full((4, 2), 0.1)
    x[:, 1] = torch.arange(4.0)
    x[2, 0] = torch.nextafter(x[2, 0], torch.tensor(1.0))
    kept = in_precision(x, "sklearn")
    assert kept.dtype == torch.float64
    assert kept[:, 0].unique().numel() == 1
    assert torch.equal(kept[:, 1], x[:, 1].double())
    assert in_precision(x, "torch") is x
