from __future__ import annotations

import numpy as np
import pytest

from data_prep.writing.splits import check_classes, limit_splits, row_generator, stratified_order, stratified_split
from drcli.errors import DataError

LABELS = np.repeat([0, 1, 2], [100, 50, 10])


def test_every_prefix_holds_each_class_to_within_one_of_its_share() -> None:
    order = stratified_order(LABELS, np.random.default_rng(0))
    for size in range(1, len(LABELS) + 1):
        counts = np.bincount(LABELS[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([100, 50, 10]) / 160).max() <= 1.0


def test_split_has_exact_sizes_and_covers_every_sample_once() -> None:
    splits = stratified_split(LABELS, {"train": 80, "val": 47, "test": 33}, np.random.default_rng(1))
    assert [len(members) for members in splits.values()] == [80, 47, 33]
    assert sorted(np.concatenate(list(splits.values())).tolist()) == list(range(160))
    assert np.bincount(LABELS[splits["train"]]).tolist() == [50, 25, 5]


def test_limit_keeps_the_shares_of_splits_and_classes() -> None:
    splits = {"train": np.arange(0, 160, 2), "val": np.arange(1, 160, 4), "test": np.arange(3, 160, 4)}
    kept = limit_splits(splits, LABELS, 32, np.random.default_rng(0))
    assert {split: len(members) for split, members in kept.items()} == {"train": 16, "val": 8, "test": 8}
    assert np.bincount(LABELS[kept["train"]]).tolist() == [10, 5, 1]
    assert all(set(kept[split]) <= set(splits[split]) for split in splits)


@pytest.mark.parametrize("limit", [1, 7, 31, 159])
def test_limit_is_spent_exactly(limit: int) -> None:
    splits = stratified_split(LABELS, {"train": 80, "val": 47, "test": 33}, np.random.default_rng(1))
    kept = limit_splits(splits, LABELS, limit, np.random.default_rng(0))
    assert sum(len(members) for members in kept.values()) == limit


@pytest.mark.parametrize("limit", [None, 160, 1000])
def test_a_limit_beyond_the_data_changes_nothing(limit: int | None) -> None:
    splits = {"train": np.arange(160)}
    assert limit_splits(splits, LABELS, limit, np.random.default_rng(0))["train"].tolist() == list(range(160))


def test_row_generator_depends_on_seed_name_and_draw_alone() -> None:
    first = row_generator(0, "x", 1).random()
    assert row_generator(0, "x", 1).random() == first
    others = [row_generator(1, "x", 1), row_generator(0, "y", 1), row_generator(0, "x", 2)]
    assert all(other.random() != first for other in others)


def test_class_absent_from_train_is_an_error_that_names_it() -> None:
    splits = {"train": np.arange(2), "val": np.arange(3)}
    with pytest.raises(DataError, match="class cat would be absent from train; give more data or a larger --limit"):
        check_classes(splits, np.array([0, 0, 1]), ("dog", "cat"), print)


def test_class_absent_from_val_is_a_warning_that_names_it() -> None:
    lines: list[str] = []
    splits = {"train": np.arange(3), "val": np.arange(1), "test": np.arange(3)}
    check_classes(splits, np.array([0, 0, 1]), ("dog", "cat"), lines.append)
    assert lines == ["class cat is absent from val"]


def test_empty_split_is_an_error() -> None:
    with pytest.raises(DataError, match="split val would be empty"):
        check_classes({"train": np.arange(1), "val": np.arange(0)}, np.array([0]), ("dog",), print)
