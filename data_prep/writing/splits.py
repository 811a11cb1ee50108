"""Stratified splits, `--limit`, and the random generator of a row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from drcli.data.target import absence, named_classes
from drcli.errors import DataError

Indices = NDArray[np.int64]


def row_generator(seed: int, name: str, draw: int = 0) -> np.random.Generator:
    """The generator of one draw of one sample: it depends on nothing but these three.

    Args:
        seed: the `seed` setting.
        name: the sample's id, or a word for what is drawn ("split").
        draw: which draw of the sample, from 0.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, key, draw])


def stratified_order(labels: Indices, generator: np.random.Generator) -> Indices:
    """A random order of all samples in which every prefix has the classes in their proportions.

    The k-th of the n samples of a class is placed at (k + 1/2) / n of the way, so that a prefix holds
    each class to within one sample of its share.

    Args:
        labels: (N,) class of each sample.
        generator: shuffles within the classes, and breaks ties between them.

    Returns:
        (N,) a permutation of 0 ... N - 1.
    """
    shuffled = generator.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(position, kind="stable")]


def stratified_split(labels: Indices, sizes: Mapping[str, int], generator: np.random.Generator) -> dict[str, Indices]:
    """Split samples into parts of exactly the given sizes, classes in equal proportions.

    Args:
        labels: (N,) class of each sample.
        sizes: number of samples by split; they add up to N.
        generator: decides which samples go where.

    Returns:
        Ascending sample indices by split.
    """
    assert sum(sizes.values()) == len(labels)
    cuts = np.cumsum(list(sizes.values()))[:-1]
    parts = np.split(stratified_order(labels, generator), cuts)
    return {split: np.sort(part) for split, part in zip(sizes, parts, strict=True)}


def limit_splits(
    splits: Mapping[str, Indices], labels: Indices, limit: int | None, generator: np.random.Generator
) -> dict[str, Indices]:
    """Keep at most `limit` samples over all splits; splits and classes keep their shares.

    Args:
        splits: sample indices by split.
        labels: (N,) class of each sample.
        limit: how many to keep; None keeps everything.
        generator: decides which ones stay.
    """
    total = sum(len(members) for members in splits.values())
    if limit is None or limit >= total:
        return dict(splits)
    quotas = share_out({split: len(members) * limit / total for split, members in splits.items()})
    return {
        split: np.sort(members[stratified_order(labels[members], generator)[: quotas[split]]])
        for split, members in splits.items()
    }


def share_out(shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers with the same sum as the shares, each within one of its share."""
    quotas = {split: int(share) for split, share in shares.items()}
    missing = round(sum(shares.values())) - sum(quotas.values())
    for split in sorted(shares, key=lambda split: quotas[split] - shares[split])[:missing]:
        quotas[split] += 1
    return quotas


def check_classes(
    splits: Mapping[str, Indices], labels: Indices, classes: tuple[str, ...], warn: Callable[[str], None]
) -> None:
    """Refuse a training split that lacks a class; warn of a class missing elsewhere.

    Args:
        splits: sample indices by split.
        labels: (N,) class of each sample.
        classes: class names in index order.
        warn: receives one line for each of val and test that lacks classes.

    Raises:
        DataError: a split is empty, or a class is absent from train.
    """
    for split, members in splits.items():
        if len(members) == 0:
            raise DataError(f"split {split} would be empty; give more data or a larger --limit")
        present = set(labels[members].tolist())
        absent = [name for index, name in enumerate(classes) if index not in present]
        if absent and split == "train":
            raise DataError(f"{named_classes(absent)} would be absent from train; give more data or a larger --limit")
        if absent:
            warn(absence(absent, split))
