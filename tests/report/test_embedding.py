"""Maps of representations: repeatable, telling, and robust to degenerate features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.blobs import blobs

from drcli.report.embedding import MOST_POINTS, embed, principal_components


def test_principal_components_keep_distances_when_there_are_enough() -> None:
    features = np.random.default_rng(0).normal(size=(6, 4))
    components = principal_components(features)
    assert components.shape == (6, 4)
    distance = np.linalg.norm(components[:, None] - components, axis=2)
    np.testing.assert_allclose(distance, np.linalg.norm(features[:, None] - features, axis=2))
    assert (np.diff(components.var(axis=0)) <= 0).all()


def test_one_dimension_gets_a_second_of_zeros() -> None:
    components = principal_components(np.array([[0.0], [3.0], [6.0]]))
    np.testing.assert_allclose(np.abs(components), [[3, 0], [0, 0], [3, 0]], atol=1e-12)


def test_at_most_fifty_components_are_kept() -> None:
    assert principal_components(np.random.default_rng(0).normal(size=(70, 60))).shape == (70, 50)


def test_rows_of_a_class_lie_together_and_the_map_repeats() -> None:
    train, val = blobs(60, num_classes=3, spread=0.05, seed=1), blobs(30, num_classes=3, spread=0.05, seed=2)
    found, again = embed(*train, *val), embed(*train, *val)
    np.testing.assert_array_equal(found.points, again.points)
    assert (len(found.labels), found.is_val.sum()) == (90, 30)
    centres = np.stack([found.points[found.labels == number].mean(axis=0) for number in range(3)])
    nearest = np.linalg.norm(found.points[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, found.labels)


def test_many_rows_are_thinned_out_in_both_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drcli.report.embedding.tsne", lambda components: components[:, :2])
    found = embed(*blobs(3 * MOST_POINTS), *blobs(MOST_POINTS))
    assert len(found.points) == len(found.labels) == len(found.is_val) == MOST_POINTS
    assert 0.2 < found.is_val.mean() < 0.3
    assert found.rows == 4 * MOST_POINTS


@pytest.mark.parametrize("width", [1, 4])
def test_a_collapsed_encoder_is_one_point(width: int) -> None:
    labels = torch.tensor([0, 1, 0])
    found = embed(torch.ones(3, width), labels, torch.ones(2, width), labels[:2])
    assert not found.points.any()


def test_four_rows_of_one_dimension_have_a_map() -> None:
    features, labels = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    assert np.isfinite(embed(features, labels, features + 0.1, labels).points).all()
