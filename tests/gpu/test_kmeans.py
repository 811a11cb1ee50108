"""K-means where the features are, against scikit-learn: the same worth."""

from __future__ import annotations

from statistics import mean

import pytest
import torch
from diagnosis.test_kmeans import MIXTURES, hard_mixture, inertia

from drcli.diagnosis import cluster, purity

SEEDS = range(5)


@pytest.mark.parametrize(("size", "num_clusters", "spread"), MIXTURES)
def test_ours_is_worth_what_scikit_learns_is(device: torch.device, size: int, num_clusters: int, spread: float) -> None:
    """Means over five seeds: inertia to a percent, purity to two hundredths."""
    features, labels = hard_mixture(size, num_clusters, spread)
    ours = [cluster(features.to(device), num_clusters, seed=seed, engine="torch") for seed in SEEDS]
    theirs = [cluster(features, num_clusters, seed=seed, engine="sklearn") for seed in SEEDS]
    worth = [mean(inertia(features, one) for one in runs) for runs in (ours, theirs)]
    pure = [mean(purity(one, labels) for one in runs) for runs in (ours, theirs)]
    assert worth[0] == pytest.approx(worth[1], rel=0.01)
    assert pure[0] == pytest.approx(pure[1], abs=0.02)
    assert torch.equal(cluster(features.to(device), num_clusters, seed=0, engine="torch"), ours[0])
