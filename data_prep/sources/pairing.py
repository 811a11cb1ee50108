"""Which image is paired with which recording: images are divided among the splits, then given to recordings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_prep.writing.splits import Indices
from drcli.amounts import counted
from drcli.errors import DataError


def share_images(
    labels: Indices,
    groups: Mapping[tuple[str, ...], Indices],
    needs: Mapping[str, Indices],
    generator: np.random.Generator,
) -> dict[str, Indices]:
    """Give every image of a group to one of the group's splits, class by class, in proportion to need.

    Args:
        labels: (N,) class of each image.
        groups: image indices by the splits that they serve, each split in one group.
        needs: by split, (C,) how many images of each class it will use.
        generator: decides which images go where.

    Returns:
        Disjoint image indices by split, in random order within a class.
    """
    shares: dict[str, list[Indices]] = {split: [] for split in needs}
    for splits, members in groups.items():
        shuffled = generator.permutation(members)
        wanted = np.stack([needs[split] for split in splits])  # (splits, C)
        for label in np.flatnonzero(wanted.sum(axis=0)):
            images = shuffled[labels[shuffled] == label]
            ends = np.cumsum(wanted[:, label])
            cuts = len(images) * ends[:-1] // ends[-1]
            for split, part in zip(splits, np.split(images, cuts), strict=True):
                shares[split].append(part)
    return {split: np.concatenate(parts) for split, parts in shares.items()}


def pair_images(digits: Indices, pool: Indices, labels: Indices, draws: int, *, split: str) -> Indices:
    """Give each recording of a split `draws` different images of its class.

    No image is used twice unless the pool has too few.

    Args:
        digits: (R,) class of each recording.
        pool: images of this split.
        labels: class of every image.
        draws: images per recording.
        split: the split's name, for the message.

    Returns:
        (R, draws) image indices.

    Raises:
        DataError: the pool has fewer than `draws` images of a class.
    """
    pairs = np.empty((len(digits), draws), dtype=np.int64)
    for digit in np.unique(digits):
        images = pool[labels[pool] == digit]
        if len(images) < draws:
            raise DataError(
                f"MNIST: {counted(len(images), 'image')} of digit {digit} for split {split}, a recording needs "
                f"{draws}; lower dataset.prepare.draws or give the complete files"
            )
        members = np.flatnonzero(digits == digit)
        pairs[members] = images[np.arange(len(members) * draws) % len(images)].reshape(-1, draws)
    return pairs
