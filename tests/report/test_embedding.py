"""Maps of representations: repeatable, telling, and robust to degenerate features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.blobs import blobs

from drcli.diagnosis import scale_features
from drcli.report.embedding import embed, principal_components, scaled


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


def test_features_are_scaled_as_for_clustering() -> None:
    features = np.array([[0, 5, 60000], [1, 5, -60000], [4, 5, 0]], dtype=np.float16)
    expected = np.array([[-1, -1, 1], [-0.5, -1, -1], [1, -1, 0]])
    np.testing.assert_allclose(scaled(features), expected, atol=1e-12)
    np.testing.assert_allclose(
        scaled(features), scale_features(torch.from_numpy(features).double()).numpy(), atol=1e-12
    )


def test_rows_of_a_class_lie_together_and_the_map_repeats() -> None:
    features, labels = (x.numpy() for x in blobs(90, num_classes=3, spread=0.05, seed=1))
    (rows, points), (_, again) = embed(features, 1000), embed(features, 1000)
    np.testing.assert_array_equal(points, again)
    np.testing.assert_array_equal(np.sort(rows), np.arange(90))
    centres = np.stack([points[labels[rows] == number].mean(axis=0) for number in range(3)])
    nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, labels[rows])


def test_of_many_rows_some_are_drawn_from_all_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drcli.report.embedding.tsne", lambda components: components[:, :2])
    rows, points = embed(blobs(400)[0].numpy(), 100)
    assert rows.shape == (100,)
    assert points.shape == (100, 2)
    assert len(set(rows)) == 100
    assert 20 < (rows < 100).sum() + (rows >= 300).sum() < 80  # about half of them from both ends


@pytest.mark.parametrize("width", [1, 4])
def test_a_collapsed_encoder_is_one_point(width: int) -> None:
    assert not embed(np.ones((5, width)), 1000)[1].any()


def test_four_rows_of_one_dimension_have_a_map() -> None:
    assert np.isfinite(embed(np.array([[0.0], [1.0], [0.1], [1.1]]), 1000)[1]).all()
