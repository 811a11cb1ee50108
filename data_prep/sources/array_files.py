"""The .npz files of your own arrays: which there are, what is in them, and what the axes are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from data_prep.sources.npz import Stored, read_headers
from data_prep.writing.splits import Indices
from drcli.data.format import SPLITS
from drcli.errors import DataError

Kind = Literal["array", "frames", "flow", "sequence", "vector", "tokens"]
AXES: Mapping[Kind, str] = {
    "array": "(C, H, W)",
    "frames": "(T, C, H, W)",
    "flow": "(T, 2, H, W)",
    "sequence": "(L, D)",
    "vector": "(D,)",
    "tokens": "(L,)",
}
KINDS_BY_RANK: Mapping[int, tuple[Kind, ...]] = {
    1: ("tokens", "vector"),
    2: ("array", "sequence"),
    3: ("array",),
    4: ("frames", "flow"),
}
"""The kinds that a sample of so many axes can have; the last one is taken by default."""

LABELS = "labels"
LENGTHS = "_lengths"
PRESENT = "_present"
LAYOUT = f"{LABELS} (N,), and one array (N, ...) per modality"

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,99}")  # it names files, and a block of the recipe

Contents = Mapping[str, Stored]
"""The arrays of one file, by name."""


def find_files(source: Path) -> dict[str, Path]:
    """The files of a folder by split, in the order of `SPLITS`; without val where it is not there.

    Raises:
        DataError: train.npz or test.npz is missing.
    """
    paths = {split: source / f"{split}.npz" for split in SPLITS}
    there = [split for split, path in paths.items() if path.exists() or path.is_symlink()]
    for split in ("train", "test"):
        if split not in there:
            raise DataError(
                f"{paths[split]}: no such file; the folder must hold train.npz, test.npz and, unless it is to be "
                f"drawn from train, val.npz, each saved by numpy.savez with {LAYOUT}"
            )
    return {split: paths[split] for split in there}  # what cannot be read is not what is not there


def read_contents(path: Path) -> dict[str, Stored]:
    """The arrays of a file, checked as far as headers show what is wrong.

    Raises:
        DataError: the file is not an .npz file or damaged, labels are missing, or an array has a name, a type
            or a number of rows that does not fit.
    """
    contents = read_headers(path)
    if LABELS not in contents:
        raise DataError(f"{path}: array {LABELS!r} is missing (there: {', '.join(contents)}); the file needs {LAYOUT}")
    labels = contents[LABELS]
    _check_column(labels, "iuUS", "integers or strings, the class of each sample")
    if labels.shape[0] == 0:
        raise labels.refused("is empty; every split needs samples")
    modalities = modalities_of(contents)
    if not modalities:
        raise DataError(f"{path}: holds no modality; the file needs {LAYOUT}")
    for stored in contents.values():
        _check_array(stored, modalities)
        if stored.shape[0] != labels.shape[0]:
            raise stored.refused(
                f"has {stored.shape[0]} rows, {LABELS!r} has {labels.shape[0]}; make them equally many"
            )
    return contents


def check_alike(train: Contents, other: Contents) -> None:
    """Refuse a file whose arrays are not named, typed and shaped as those of train.npz.

    Raises:
        DataError: an array is missing, or there is another, or its samples differ.
    """
    for name in train:
        if name not in other:
            raise DataError(f"{other[LABELS].path}: array {name!r} is missing, but train.npz has it; add it")
    for name, stored in other.items():
        if name not in train:
            raise stored.refused("is not in train.npz; add it there, or leave it out here")
    for m in modalities_of(train):
        there, here = (f"{of[m].dtype.name} {of[m].shape[1:]}" for of in (train, other))
        if there != here:
            raise other[m].refused(
                f"has samples {here}, in train.npz they are {there}; make them the same in all files"
            )


def kind_of(stored: Stored, asked: Kind | None) -> Kind:
    """What the axes of a modality's samples are: as requested, or what their number suggests.

    Three axes are an array, two a sequence and one a vector; four are frames, or flow where there are two channels.

    Raises:
        DataError: no kind has this number of axes, or not the requested one.
    """
    shape = stored.shape[1:]
    kinds = KINDS_BY_RANK.get(len(shape))
    if kinds is None:
        raise stored.refused(
            f"has the shape {stored.shape}; it must be (N, D), (N, L, D), (N, C, H, W) or (N, T, C, H, W)"
        )
    if len(shape) == 4 and shape[1] != 2:
        kinds = ("frames",)
    if asked is not None and asked not in kinds:
        raise stored.refused(
            f"has samples {shape}, but dataset.prepare.kinds.{stored.name} = {asked} means {AXES[asked]}; "
            "change the setting, or the array's shape"
        )
    return asked or kinds[-1]


def sample_shape(stored: Stored, kind: Kind) -> tuple[int, ...]:
    """Shape of a sample as it is stored: a picture (H, W) gets its one channel."""
    shape = stored.shape[1:]
    return (1, *shape) if kind == "array" and len(shape) == 2 else shape


def modalities_of(contents: Contents) -> list[str]:
    """The names that are neither labels nor lengths nor masks, in the file's order."""
    return [name for name in contents if name != LABELS and not name.endswith((LENGTHS, PRESENT))]


def read_present(contents: Contents) -> dict[str, NDArray[np.bool_]]:
    """Which rows (N,) have a modality, by modality that has a mask.

    Raises:
        DataError: a mask has other values than 0 and 1, or is false everywhere, or a row lacks every modality.
    """
    modalities, masks = modalities_of(contents), dict[str, NDArray[np.bool_]]()
    for m in (m for m in modalities if m + PRESENT in contents):
        found = contents[m + PRESENT].whole()
        if not np.isin(found, (0, 1)).all():
            raise contents[m + PRESENT].refused("has other values than 0 and 1; 1 says that a sample has the modality")
        if not found.any():
            raise contents[m + PRESENT].refused(
                f"is false everywhere: no sample here has {m!r}; correct the mask, or leave {m!r} out of every file"
            )
        masks[m] = found.astype(np.bool_)
    if masks and len(masks) == len(modalities):
        lacking = ~np.any(list(masks.values()), axis=0)
        if lacking.any():
            raise contents[LABELS].refused(
                f"has row {int(lacking.argmax())}, which lacks every modality by their masks; leave such rows out"
            )
    return masks


def read_lengths(contents: Contents, modality: str) -> Indices:
    """Valid steps (N,) of a sequence (N, L, D), or of tokens (N, L): L throughout where the file does not say.

    Raises:
        DataError: they are not in 0 ... L, or all 0.
    """
    rows, longest = contents[modality].shape[:2]
    if modality + LENGTHS not in contents:
        return np.full(rows, longest, dtype=np.int64)
    stored = contents[modality + LENGTHS]
    lengths = stored.whole().astype(np.int64)
    low, high = lengths.min(), lengths.max()
    if low < 0 or not 0 < high <= longest:
        raise stored.refused(
            f"runs from {low} to {high}; {modality!r} has {longest} steps: give the valid ones of each"
        )
    return lengths


def _check_array(stored: Stored, modalities: Sequence[str]) -> None:
    if stored.name in modalities:
        _check_modality(stored)
    elif stored.name.endswith(PRESENT):
        _check_present(stored, modalities)
    elif stored.name != LABELS:
        _check_lengths(stored, modalities)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a modality.

    Raises:
        ValueError: it is not one.
    """
    if not _NAME.fullmatch(name) or name == LABELS or name.endswith((LENGTHS, PRESENT)):
        raise ValueError("has no name for a modality; letters, digits, _ and - are allowed")


def _check_modality(stored: Stored) -> None:
    try:
        check_name(stored.name)
    except ValueError as error:
        raise stored.refused(str(error)) from error
    if stored.dtype.kind not in "iuf":
        raise stored.refused(f"has the type {stored.dtype}; a modality holds real numbers: convert it")
    if not stored.shape or 0 in stored.shape[1:]:
        raise stored.refused(f"has the shape {stored.shape}, which holds no samples; it must be (N, ...)")


def _check_lengths(stored: Stored, modalities: Sequence[str]) -> None:
    _check_column(stored, "iu", "integers, the valid steps of each sample")
    modality = stored.name.removesuffix(LENGTHS)
    if modality not in modalities:
        raise stored.refused(f"holds the lengths of {modality!r}, which is missing; add it, or leave the lengths out")


def _check_present(stored: Stored, modalities: Sequence[str]) -> None:
    _check_column(stored, "biu", "booleans, whether each sample has the modality")
    modality = stored.name.removesuffix(PRESENT)
    if modality not in modalities:
        raise stored.refused(f"says which samples have {modality!r}, which is missing; add it, or leave the mask out")


def _check_column(stored: Stored, types: str, what: str) -> None:
    if len(stored.shape) != 1 or stored.dtype.kind not in types:
        raise stored.refused(f"is {stored.dtype} {stored.shape}; it must be (N,) {what}")
