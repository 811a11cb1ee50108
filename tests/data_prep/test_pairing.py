from __future__ import annotations

import numpy as np
import pytest

from data_prep.sources.pairing import pair_images, share_images
from drcli.errors import DataError

LABELS = np.tile([0, 1], 20)
NEEDS = {"train": np.array([6, 6]), "val": np.array([2, 2]), "test": np.array([2, 2])}


def test_images_are_shared_out_by_need_without_overlap() -> None:
    pools = share_images(LABELS, {("train", "val", "test"): np.arange(40)}, NEEDS, np.random.default_rng(0))
    assert {split: np.bincount(LABELS[pool]).tolist() for split, pool in pools.items()} == {
        "train": [12, 12],
        "val": [4, 4],
        "test": [4, 4],
    }
    assert sorted(np.concatenate(list(pools.values())).tolist()) == list(range(40))


def test_each_split_takes_from_its_own_group() -> None:
    groups = {("train", "val"): np.arange(30), ("test",): np.arange(30, 40)}
    pools = share_images(LABELS, groups, NEEDS, np.random.default_rng(0))
    assert sorted(pools["test"].tolist()) == list(range(30, 40))
    assert max(pools["train"].max(), pools["val"].max()) < 30


def test_partners_are_of_the_class_and_used_once_while_they_last() -> None:
    digits = np.array([0, 1, 0, 1, 1])
    pairs = pair_images(digits, np.arange(40), LABELS, 4, split="val")
    assert pairs.shape == (5, 4)
    assert (LABELS[pairs] == digits[:, None]).all()
    assert len(np.unique(pairs)) == 20


def test_a_small_pool_is_used_again_but_not_within_a_recording() -> None:
    pairs = pair_images(np.zeros(7, dtype=np.int64), np.array([0, 2, 4]), LABELS, 2, split="val")
    assert all(len(set(row)) == 2 for row in pairs.tolist())
    assert np.bincount(pairs.ravel())[[0, 2, 4]].tolist() == [5, 5, 4]


def test_too_few_images_for_the_draws_is_an_error() -> None:
    with pytest.raises(DataError, match="MNIST: 1 image of digit 0 for split val, a recording needs 2; lower"):
        pair_images(np.array([0]), np.array([0]), LABELS, 2, split="val")
