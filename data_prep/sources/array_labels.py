"""The classes of your own arrays: names and indices from labels, which are integers or text."""

from __future__ import annotations

import re

import numpy as np

from data_prep.sources.array_files import Contents
from data_prep.sources.npz import Array, Stored
from data_prep.writing.splits import Indices

_UNUSABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]|^$")  # control characters, half surrogate pairs, no text


def number_labels(columns: Contents) -> tuple[tuple[str, ...], dict[str, Indices]]:
    """Class names in ascending order, numbers as numbers, and each sample's class index (N,) by file.

    Args:
        columns: the labels of each file; those of "train" decide which classes there are.

    Raises:
        DataError: one file has numbers and another text, train has one class only, or lacks one that another file has.
    """
    values = {name: _read_labels(stored) for name, stored in columns.items()}
    if any(found.dtype == object for found in values.values()):
        values = {name: found.astype(object) if found.dtype.kind == "i" else found for name, found in values.items()}
    classes = np.unique(values["train"])
    if len(classes) == 1:
        raise columns["train"].refused(f"has one class only ({classes.tolist()[0]!r}); give at least two")
    for name, found in values.items():
        if found.dtype.kind != classes.dtype.kind:
            raise columns[name].refused(
                f"is not of the type it has in {columns['train'].where}; make both integers or both strings"
            )
        absent = [repr(value) for value in np.setdiff1d(found, classes).tolist()]
        if absent:
            train = columns["train"].where
            shown = ", ".join([*absent[:5], *(["..."] if len(absent) > 5 else [])])
            raise columns[name].refused(
                f"has classes that {train} lacks: {shown}; leave their samples out, or move some to {train}"
            )
    indices = {name: np.searchsorted(classes, found).astype(np.int64) for name, found in values.items()}
    return tuple(str(value) for value in classes), indices


def whole_labels(columns: Contents) -> dict[str, Indices]:
    """Labels (N,) that are class indices already, by file."""
    return {name: stored.whole().astype(np.int64) for name, stored in columns.items()}


def _read_labels(stored: Stored) -> Array:
    """Labels (N,) as int64, as Python's integers where that is too small, or as text.

    Raises:
        DataError: a label is empty, or not text that can be printed.
    """
    labels = stored.whole()
    if labels.dtype.kind in "iu":
        is_large = labels.dtype.kind == "u" and int(labels.max()) > np.iinfo(np.int64).max
        return labels.astype(object if is_large else np.int64)
    try:
        labels = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
        names = np.unique(labels).tolist()
    except ValueError as error:  # bytes that are not UTF-8, or code points that Unicode does not have
        raise stored.refused(f"holds labels that are not text ({error}); save them as text or integers") from error
    for name in names:
        if _UNUSABLE.search(name):
            raise stored.refused(f"holds the label {name!r}, which cannot be shown as a class; rename it")
    return labels
