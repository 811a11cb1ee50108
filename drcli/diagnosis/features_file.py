"""FEATURES.npz: representations of a model that drcli never saw.

Arrays `labels_train` (N,) and `labels_val` (M,), integers or strings, and for each modality
`<modality>_train` (N, D) and `<modality>_val` (M, D), numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drcli.errors import DataError
from drcli.npz_file import NoArchiveError, read_npz
from drcli.reading import ContentsError, is_printable, one_line

Array = NDArray[Any]
LAYOUT = "labels_train, labels_val and, for each modality, <modality>_train and <modality>_val"
# Beyond this, squared distances overflow in single precision.
LARGEST = 1e12


@dataclass(frozen=True)
class FeatureSet:
    """Representations of two splits.

    Attributes:
        features_train: {m: (N, D_m)} float32.
        labels_train: (N,) int64 indices into `class_names`.
        features_val: {m: (M, D_m)} float32.
        labels_val: (M,) int64.
        class_names: the labels as they stood in the file, in ascending order.
    """

    features_train: Mapping[str, Tensor]
    labels_train: Tensor
    features_val: Mapping[str, Tensor]
    labels_val: Tensor
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load_features(path: Path) -> FeatureSet:
    """Read and check a file of features; nothing in it is executed.

    Labels of both splits are renumbered together to 0..C-1, where C counts the classes of train.

    Raises:
        DataError: the file is missing, is not an .npz file, is damaged, or its arrays do not fit together; the
            message names the file, the array and the remedy.
    """
    try:
        arrays = _read_arrays(path)
        modalities = _modalities(arrays)
        labels_train, labels_val, class_names = _relabel(arrays)
        splits = {"train": len(labels_train), "val": len(labels_val)}
        features = {
            split: {m: _features(f"{m}_{split}", arrays, size) for m in modalities} for split, size in splits.items()
        }
        _check_widths(features["train"], features["val"])
    except ContentsError as error:
        raise DataError(f"{path}: {error}") from error
    return FeatureSet(features["train"], labels_train, features["val"], labels_val, class_names)


def _read_arrays(path: Path) -> dict[str, Array]:
    """Return all arrays of the file by name."""
    try:
        return read_npz(path)
    except FileNotFoundError as error:
        raise ContentsError("no such file; save one with numpy.savez") from error
    except OSError as error:
        raise ContentsError(
            f"cannot be read ({error.strerror or error}); save it with numpy.savez: {LAYOUT}"
        ) from error
    except NoArchiveError as error:
        raise ContentsError(f"{error}: {LAYOUT}") from error


def _modalities(arrays: Mapping[str, Array]) -> list[str]:
    """Return the modalities in the order of the file, all of them with both splits."""
    for name in ("labels_train", "labels_val"):
        if name not in arrays:
            raise ContentsError(f"array {name!r} is missing; the file needs {LAYOUT}")
    parts = {name: name.rpartition("_") for name in arrays if name not in ("labels_train", "labels_val")}
    for name, (modality, _, split) in parts.items():
        if not modality or split not in ("train", "val"):
            raise ContentsError(f"array {name!r} does not belong here; leave it out: the file holds {LAYOUT}")
        other = f"{modality}_{'val' if split == 'train' else 'train'}"
        if other not in arrays:
            raise ContentsError(f"array {other!r} is missing, but {name!r} is in the file; add it")
    if not parts:
        raise ContentsError(f"holds no modality, only labels; the file needs {LAYOUT}")
    return list(dict.fromkeys(modality for modality, _, _ in parts.values()))


def _relabel(arrays: Mapping[str, Array]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Return the labels of both splits as indices, and the classes they stand for."""
    train, val = (_labels(name, arrays[name]) for name in ("labels_train", "labels_val"))
    if isinstance(train[0], str) != isinstance(val[0], str):
        raise ContentsError("labels_train and labels_val differ in type; make both integers or both strings")
    classes = sorted(set(train))
    if absent := sorted(set(val) - set(train)):
        raise ContentsError(f"labels_val has classes that labels_train lacks: {_some(absent)}; leave their rows out")
    if len(classes) == 1:
        raise ContentsError(f"labels_train has one class only ({classes[0]}); a diagnosis needs at least two")
    if len(val) < len(classes):
        raise ContentsError(
            f"labels_val has {len(val)} samples for {len(classes)} classes; each split needs as many "
            "samples as there are classes"
        )
    index = {label: position for position, label in enumerate(classes)}
    train_index, val_index = (torch.tensor([index[label] for label in labels]) for labels in (train, val))
    return train_index, val_index, tuple(str(label) for label in classes)


def _labels(name: str, array: Array) -> list[Any]:
    """Return labels as Python integers or strings."""
    if array.ndim != 1 or len(array) == 0:
        raise ContentsError(f"array {name!r} has the shape {array.shape}; it must be (N,), one label per sample")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "backslashreplace")
    if array.dtype.kind not in "iubU":
        raise ContentsError(f"array {name!r} has the type {array.dtype}; labels are integers or strings: convert it")
    try:
        labels: list[Any] = array.tolist()
    except (ValueError, SystemError) as error:  # text beyond the last character of Unicode
        raise ContentsError(f"array {name!r} holds damaged text ({one_line(error)}); save the file again") from error
    if array.dtype.kind == "U" and not all(map(is_printable, labels)):
        raise ContentsError(f"array {name!r} has control characters in its labels; leave them out")
    return labels


def _some(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")


def _features(name: str, arrays: Mapping[str, Array], size: int) -> Tensor:
    """Return the checked features of one modality and split, (size, D) float32."""
    array = arrays[name]
    if array.dtype.kind not in "iuf":
        raise ContentsError(f"array {name!r} has the type {array.dtype}; features are real numbers: convert it")
    if array.ndim != 2 or array.shape[1] == 0:
        raise ContentsError(
            f"array {name!r} has the shape {array.shape}; it must be (N, D), one row per sample: "
            "flatten or average-pool the other dimensions"
        )
    if len(array) != size:
        labels = f"labels_{name.rpartition('_')[2]}"
        raise ContentsError(f"array {name!r} has {len(array)} rows, but {labels} has {size}; make them equally many")
    with np.errstate(over="ignore"):  # what overflows is counted below
        features = torch.from_numpy(array.astype(np.float32))
    if bad := int((~(features.abs() <= LARGEST)).sum()):
        raise ContentsError(
            f"array {name!r} has {bad} values that are NaN, infinite or beyond {LARGEST:g}; "
            "leave their rows out, or scale the features down"
        )
    return features


def _check_widths(train: Mapping[str, Tensor], val: Mapping[str, Tensor]) -> None:
    for m in train:
        if train[m].shape[1] != val[m].shape[1]:
            raise ContentsError(
                f"arrays '{m}_train' and '{m}_val' have {train[m].shape[1]} and {val[m].shape[1]} "
                "dimensions; take both from the same layer"
            )
