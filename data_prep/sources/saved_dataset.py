"""A dataset of Hugging Face's `datasets`, as `save_to_disk` leaves it: splits, columns and the names of classes.

A `DatasetDict` has splits train, test and, unless it is to be drawn from train, validation (also called valid, dev or
val). Columns are numbers, lists of numbers of any depth, or pictures; the class is a `ClassLabel`, an integer or text.
Rows are read a batch at a time from memory maps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.sources.npz import Array
from drcli.errors import DataError, UsageError
from drcli.reading import one_line
from drcli.registry import known

_DICT, _STATE = "dataset_dict.json", "state.json"

SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "dev", "val"), "val")}
"""Names of splits, and what they are here."""

_REMEDIES = {
    "Audio": "decode it to numbers with `map`, such as a waveform (L, 1) or a spectrogram (1, F, T)",
    "Video": "decode it to pictures (T, C, H, W) with `map`",
    "string": "tokenise it to lists of ids with `map`, and set dataset.prepare.kinds.NAME=tokens",
}

Splits = Mapping[str, Iterator[tuple[dict[str, Any], Any]]]


def is_saved(source: Path) -> bool:
    """Whether a folder is what `save_to_disk` of a Dataset or DatasetDict wrote."""
    return (source / _DICT).is_file() or (source / _STATE).is_file()


def saved_files(source: Path) -> list[Path]:
    """The files of a saved dataset, in a fixed order."""
    return sorted(path for path in source.rglob("*") if path.suffix in {".arrow", ".json"} and path.is_file())


@contextmanager
def saved_splits(source: Path, columns: Mapping[str, str], label: str) -> Iterator[tuple[Splits, Sequence[str] | None]]:
    """Give the samples of each split, one after another, and the names of the classes where a ClassLabel has them.

    Args:
        source: the folder.
        columns: the column of each modality; empty: every column but that of the label.
        label: the column of the class.

    Raises:
        UsageError: `datasets` is not installed.
        DataError: it cannot be read, lacks a column, or a column is of a kind that is no array.
    """
    found = _by_split(source, _loaded(source))
    features = found["train"].features if "train" in found else next(iter(found.values())).features
    _check_column(source, label, features)
    chosen = dict(columns) or {name: name for name in features if name != label}
    for modality, column in chosen.items():
        _check_column(source, column, features)
        _check_feature(source, modality, column, features[column])
    names = getattr(features[label], "names", None)
    splits = {split: _samples(part, chosen, label) for split, part in found.items()}
    try:
        yield splits, names
    except (ValueError, KeyError, OSError) as error:  # of datasets or of Arrow, while it is read
        raise DataError(f"{source}: cannot be read ({one_line(error)}); save it again with save_to_disk") from error


def _loaded(source: Path) -> Any:
    try:
        datasets = import_module("datasets")
    except ModuleNotFoundError as error:
        raise UsageError(f"{source}: a saved dataset of Hugging Face; run pip install 'drcli[datasets]'") from error
    try:
        return datasets.load_from_disk(str(source))
    except Exception as error:
        raise DataError(f"{source}: cannot be read ({one_line(error)}); save it again with save_to_disk") from error


def _by_split(source: Path, found: Any) -> dict[str, Any]:
    """The parts by the names that splits have here."""
    if not isinstance(found, Mapping):
        raise DataError(
            f"{source}: is one Dataset without splits; make them, and give the folder OUT: datasets.load_from_disk"
            f"({str(source)!r}).train_test_split(test_size=0.2, seed=0).save_to_disk(OUT); val is drawn from its train"
        )
    strangers = [name for name in found if name not in SPLIT_NAMES]
    if strangers:
        raise DataError(f"{source}: {strangers[0]!r} is no split; {known(strangers[0], SPLIT_NAMES)}")
    parts = {SPLIT_NAMES[name]: part for name, part in found.items()}
    if len(parts) < len(found):
        raise DataError(f"{source}: has two validation splits ({', '.join(found)}); save one of them")
    first = next(iter(parts.values())).features
    for name, part in parts.items():
        if part.features != first:
            raise DataError(f"{source}: the columns of {name} are not of the types of the other splits; cast them")
    return parts


def _check_column(source: Path, column: str, features: Mapping[str, Any]) -> None:
    if column not in features:
        keys = "dataset.prepare.columns and dataset.prepare.label name columns"
        raise DataError(f"{source}: has no column {column!r}; {known(column, features)} {keys}")


def _check_feature(source: Path, modality: str, column: str, feature: Any) -> None:
    if _is_picture(feature) or _leaf_type(feature) is not None:
        return
    kind = getattr(feature, "dtype", None) if type(feature).__name__ == "Value" else type(feature).__name__
    remedy = _REMEDIES.get(str(kind), "convert it to numbers with `map`").replace("NAME", modality)
    raise DataError(
        f"{source}: column {column!r} is {kind}, which is no array; {remedy}, or leave it out of "
        f"dataset.prepare.columns ({json.dumps({modality: column})})"
    )


def _is_picture(feature: Any) -> bool:
    return type(feature).__name__ == "Image"


def _leaf_type(feature: Any) -> np.dtype[Any] | None:
    """Type of the numbers in lists of any depth; None where they are no numbers."""
    while True:
        inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
        if inner is None:
            break
        feature = inner
    try:
        found = np.dtype(feature.dtype)
    except (AttributeError, TypeError):
        return None
    return found if found.kind in "iuf" else None


def _samples(part: Any, columns: Mapping[str, str], label: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the rows of a split; missing values are absent modalities."""
    types = {m: None if _is_picture(part.features[c]) else _leaf_type(part.features[c]) for m, c in columns.items()}
    rows = part.select_columns([*dict.fromkeys([*columns.values(), label])]).with_format(None)
    for row in rows:
        yield {m: _value(row[column], types[m]) for m, column in columns.items()}, row[label]


def _value(found: Any, dtype: np.dtype[Any] | None) -> Array | Any:
    return found if found is None or dtype is None else np.asarray(found, dtype)
