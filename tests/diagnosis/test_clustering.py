"""Scaling against scikit-learn's, clustering against what clusters must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.blobs import blobs

from drcli.diagnosis import cluster, purity, scale_features


def inertia(features: torch.Tensor, clusters: torch.Tensor) -> float:
    """Sum of squared distances to the centres."""
    groups = [features[clusters == number] for number in clusters.unique()]
    return float(sum(((group - group.mean(0)) ** 2).sum() for group in groups))


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (7, 3), elements=st.integers(-100_000, 100_000).map(lambda number: number / 1024)))
def test_scaling_is_that_of_scikit_learn(features: np.ndarray) -> None:
    from sklearn.preprocessing import MinMaxScaler

    expected = MinMaxScaler((-1, 1)).fit_transform(features.astype(np.float64))
    scaled = scale_features(torch.from_numpy(features.astype(np.float64)))
    np.testing.assert_allclose(scaled.numpy(), expected, atol=1e-9)


def test_scaling_by_a_reference_lets_features_leave_its_range() -> None:
    from sklearn.preprocessing import MinMaxScaler

    reference = torch.tensor([[0.0, 1.0, 5.0], [4.0, 3.0, 5.0]])
    features = torch.tensor([[2.0, 4.0, 6.0], [-4.0, 2.0, 5.0]])
    assert scale_features(features, reference).tolist() == [[0.0, 2.0, 1.0], [-3.0, 0.0, -1.0]]
    expected = MinMaxScaler((-1, 1)).fit(reference.numpy()).transform(features.numpy())
    np.testing.assert_array_equal(scale_features(features, reference).numpy(), expected)


def test_a_constant_dimension_becomes_minus_one() -> None:
    scaled = scale_features(torch.tensor([[3.0, 0.0], [3.0, 1.0]]))
    assert scaled.tolist() == [[-1.0, -1.0], [-1.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1e-30, 1e-9, 1.0, 1e9])
def test_scaling_does_not_depend_on_the_unit(dtype: torch.dtype, factor: float) -> None:
    features = torch.tensor([[2.0, 5.0], [3.0, 5.0], [6.0, 5.0]], dtype=dtype)
    expected = torch.tensor([[-1.0, -1.0], [-0.5, -1.0], [1.0, -1.0]], dtype=dtype)
    torch.testing.assert_close(scale_features(features * factor), expected)


def test_features_in_small_units_have_the_purity_of_the_same_in_large_ones() -> None:
    features, labels = blobs(120, num_classes=4, spread=0.05)
    for factor in (1.0, 1e-9):
        assert purity(cluster(scale_features(features * factor), 4), labels) == 1.0


@pytest.mark.parametrize("value", [0.1, 1e-9, 3e9])
def test_a_dimension_that_differs_by_rounding_alone_is_constant(value: float) -> None:
    column = torch.full((4, 1), value)
    column[2] = torch.nextafter(column[2], torch.tensor(torch.inf))
    assert scale_features(column)[[0, 1, 3]].flatten().tolist() == [-1.0] * 3
    assert scale_features(column)[2].item() == pytest.approx(-1.0, abs=4 * value * torch.finfo(torch.float32).eps)


def test_scaling_survives_the_largest_numbers() -> None:
    scaled = scale_features(torch.tensor([[-3e38], [0.0], [3e38]]))
    assert scaled.flatten().tolist() == pytest.approx([-1.0, 0.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_other_types_are_scaled_in_single_precision(dtype: torch.dtype) -> None:
    scaled = scale_features(torch.tensor([[0], [1], [4]], dtype=dtype))
    assert scaled.dtype == torch.float32
    assert scaled.flatten().tolist() == [-1.0, -0.5, 1.0]


def test_separate_groups_are_found_whatever_the_seed() -> None:
    features, labels = blobs(120, num_classes=4, spread=0.05)
    for seed in range(3):
        clusters = cluster(features, 4, seed=seed)
        assert clusters.shape == (120,)
        assert clusters.dtype == torch.int64
        assert set(clusters.tolist()) == {0, 1, 2, 3}
        assert purity(clusters, labels) == 1.0


def test_more_restarts_never_give_a_worse_clustering() -> None:
    features, _ = blobs(150, num_classes=15, spread=0.4, width=2)
    one, many = (inertia(features, cluster(features, 15, restarts=restarts)) for restarts in (1, 20))
    assert many < one


def test_clusters_do_not_depend_on_the_number_of_threads() -> None:
    features, _ = blobs(2000, num_classes=12, spread=1.5, width=16)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = cluster(features, 12, restarts=2)
        torch.set_num_threads(2)
        two = cluster(features, 12, restarts=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, two)


def test_fewer_distinct_points_than_clusters_leave_clusters_empty() -> None:
    features = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat(5, 1)
    clusters = cluster(features, 4)  # a warning would be an error here
    assert purity(clusters, [0, 1] * 5) == 1.0
    assert len(clusters.unique()) == 2


def test_features_that_carry_a_gradient_are_accepted() -> None:
    features, _ = blobs(20, num_classes=2)
    assert torch.equal(cluster(features.clone().requires_grad_(), 2), cluster(features, 2))


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (torch.zeros(3, 2), {"num_clusters": 4}, "3 samples cannot make 4 clusters"),
        (torch.zeros(3, 2), {"num_clusters": 0}, "3 samples cannot make 0 clusters"),
        (torch.tensor([[0.0], [torch.nan]]), {"num_clusters": 2}, "must be finite"),
        (torch.tensor([[0.0], [torch.inf]]), {"num_clusters": 2}, "must be finite"),
        (torch.zeros(3), {"num_clusters": 2}, r"shape \(N, D\) with N, D > 0, got \(3,\)"),
        (torch.zeros(0, 3), {"num_clusters": 2}, r"got \(0, 3\)"),
        (torch.zeros(3, 2), {"num_clusters": 2, "restarts": 0}, "restarts must be positive"),
        (
            torch.zeros(3, 2),
            {"num_clusters": 2, "engine": "quantum"},
            "unknown engine 'quantum'; known: auto, sklearn, torch",
        ),
    ],
)
def test_what_cannot_be_clustered_is_refused(
    features: torch.Tensor, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cluster(features, **arguments)  # type: ignore[arg-type]


def test_a_reference_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="the reference has 3 dimensions, features 2"):
        scale_features(torch.zeros(2, 2), torch.zeros(2, 3))
