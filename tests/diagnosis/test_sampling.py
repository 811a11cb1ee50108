"""A part of the rows: by class, from its seed alone, and what a diagnosis makes of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blobs import blobs

from drcli.diagnosis import MeasureSettings, diagnose_modality
from drcli.diagnosis.sampling import stratified_rows


def test_the_shares_worked_by_hand() -> None:
    """10 of 50 + 30 + 17 + 3 rows: 5, 3, 1.7 and 0.3; the tenth row goes to the third class."""
    labels = torch.tensor([4] * 50 + [7] * 30 + [2] * 17 + [9] * 3)[torch.randperm(100)]
    rows = stratified_rows(labels, 10)
    assert Counter(labels[rows].tolist()) == {4: 5, 7: 3, 2: 2}
    assert rows.tolist() == sorted(set(rows.tolist()))


def test_of_equal_remainders_the_first_class_gets_the_row() -> None:
    labels = torch.tensor([1, 0, 1, 0])
    assert sorted(labels[stratified_rows(labels, 1)].tolist()) == [0]
    assert sorted(labels[stratified_rows(labels, 3)].tolist()) == [0, 0, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(1, 100), st.integers(0, 3))
def test_every_class_has_its_share_to_less_than_a_row(labels: list[int], count: int, seed: int) -> None:
    of = torch.tensor(labels)
    rows = stratified_rows(of, count, seed)
    assert len(rows) == min(count, len(labels)) == len(set(rows.tolist()))
    for label, number in Counter(labels).items():
        wanted = min(count, len(labels)) * number / len(labels)
        assert abs(int((of[rows] == label).sum()) - wanted) < 1


def test_the_same_seed_gives_the_same_rows_another_others_and_no_global_generator_is_read() -> None:
    labels = torch.arange(300) % 3
    np.random.seed(0)  # noqa: NPY002 - the global generator is what must not matter
    state, theirs = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    first, again, other = (stratified_rows(labels, 30, seed).tolist() for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
    assert np.random.get_state()[1].tolist() == theirs  # type: ignore[index] # noqa: NPY002


def test_each_row_of_a_class_is_as_likely_as_any_other() -> None:
    labels = torch.arange(40) % 2
    drawn = Counter(row for seed in range(400) for row in stratified_rows(labels, 10, seed).tolist())
    assert max(abs(number - 100) for number in drawn.values()) < 45  # five standard deviations of 8.7
    assert len(drawn) == 40


def test_a_sampled_diagnosis_is_that_of_the_sampled_rows() -> None:
    train, val = blobs(300, seed=1, spread=1.5), blobs(120, seed=2, spread=2.5)
    options = {"num_classes": 5, "lambda_": 3.0}
    found = diagnose_modality(*train, *val, settings=MeasureSettings(sample=60), **options)  # type: ignore[arg-type]
    parts = [part[stratified_rows(labels, 60)] for features, labels in (train, val) for part in (features, labels)]
    assert found == diagnose_modality(*parts, settings=MeasureSettings(), **options)  # type: ignore[arg-type]
    assert (found.num_train, found.num_val) == (60, 60)


@pytest.mark.parametrize(("sample", "rows"), [(1, 5), (None, 40), (1000, 40)])
def test_a_sample_has_no_fewer_rows_than_classes_and_no_more_than_there_are(sample: int | None, rows: int) -> None:
    train = blobs(40, seed=1)
    found = diagnose_modality(*train, *train, num_classes=5, settings=MeasureSettings(sample=sample), lambda_=3.0)
    assert found.num_train == rows
