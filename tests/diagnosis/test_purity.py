"""Purity against numbers worked by hand, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from drcli.diagnosis import purity

PAIRS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("assignments", "labels", "expected"),
    [
        ([5, 5, 7, 7], [0, 0, 1, 1], 1.0),
        ([3, 3, 3, 3], [0, 0, 1, 1], 0.5),
        ([1, 1, 2, 2, 2, 2], [0, 0, 0, 1, 1, 2], 4 / 6),
        ([0, 0, 0, 1, 1], [2, 2, 0, 1, 1], 4 / 5),
        ([0, 1, 2], [0, 0, 0], 1.0),
        ([-1], [-9], 1.0),
    ],
)
def test_purity_counts_the_most_frequent_class_of_each_cluster(
    assignments: list[int], labels: list[int], expected: float
) -> None:
    assert purity(assignments, labels) == expected


@given(PAIRS)
def test_purity_lies_between_the_commonest_class_and_one(pairs: list[tuple[int, int]]) -> None:
    assignments, labels = zip(*pairs, strict=True)
    commonest = max(labels.count(label) for label in labels) / len(labels)
    assert commonest <= purity(assignments, labels) <= 1.0


@given(PAIRS, st.permutations(range(6)), st.permutations(range(5)))
def test_names_of_clusters_and_classes_do_not_matter(
    pairs: list[tuple[int, int]], clusters: list[int], classes: list[int]
) -> None:
    assignments, labels = zip(*pairs, strict=True)
    renamed = purity([100 * clusters[c] for c in assignments], [-7 * classes[y] for y in labels])
    assert renamed == purity(assignments, labels)


@given(PAIRS)
def test_the_order_of_samples_does_not_matter(pairs: list[tuple[int, int]]) -> None:
    assert purity(*zip(*sorted(pairs), strict=True)) == purity(*zip(*pairs, strict=True))


def test_tensors_and_arrays_give_the_same_and_stay_as_they_are() -> None:
    assignments, labels = torch.tensor([1, 1, 0]), np.array([4, 9, 9])
    assert purity(assignments, labels) == purity(assignments.numpy(), torch.from_numpy(labels)) == 2 / 3
    assert assignments.tolist() == [1, 1, 0]
    assert labels.tolist() == [4, 9, 9]


@pytest.mark.parametrize(
    ("assignments", "labels", "message"),
    [
        ([0, 1], [0], "differ in length: 2 and 1"),
        ([], [], r"assignments must have the shape \(N,\)"),
        ([0], [[0]], r"labels must have the shape \(N,\) with N > 0, got \(1, 1\)"),
    ],
)
def test_what_is_no_clustering_is_refused(assignments: object, labels: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        purity(assignments, labels)  # type: ignore[arg-type]
