"""The Wikipedia image-text features: one MAT-file, and one list for each part of the official split.

Row i of a part's matrices belongs to line i of its list: name of the text, name of the picture and number of the
category from 1, with tabs between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.files.folders import find_files
from data_prep.sources.listfiles import numbered_lines, refuse_doubles, shown
from data_prep.sources.mat import Matrix, read_matrices
from data_prep.writing.splits import Indices
from drcli.errors import DataError

CATEGORIES = (
    "art",
    "biology",
    "geography",
    "history",
    "literature",
    "media",
    "music",
    "royalty",
    "sport",
    "warfare",
)
"""Names of the categories 1 to 10: art and architecture, biology, geography and places, and so on."""

OFFICIAL = {"train": 2173, "test": 693}  # documents
ENDINGS = {"train": "_tr", "test": "_te"}  # of the variables' names

Text = Literal["tfidf", "lda"]
VARIABLES: Mapping[str, str] = {"tfidf": "T_tfidf", "lda": "T", "visual": "I"}


@dataclass(frozen=True)
class Part:
    """One part of the official split.

    Attributes:
        name: train or test.
        features: (N, D) by modality, `text` and `visual`.
        labels: (N,) index of each document's category.
        ids: N names, those of the texts.
        path: the list.
    """

    name: str
    features: Mapping[str, Matrix]
    labels: Indices
    ids: tuple[str, ...]
    path: Path


def source_files(source: Path) -> list[Path]:
    """Every file below a folder that may be read, in a fixed order."""
    return sorted([*find_files(source, {".mat"}), *find_files(source, {".list"})])


def read_parts(source: Path, text: Text) -> tuple[Path, dict[str, Part]]:
    """The MAT-file, and the parts train and test.

    Args:
        source: folder of the download; files are found below it by what they hold.
        text: which features of the texts are taken.

    Raises:
        DataError: a file is missing, there are two that fit, or one is damaged; matrices of a part have different
            numbers of rows, or those of a modality different numbers of columns; a value is not finite; a document
            is listed twice.
    """
    path, matrices = _find_matrices(source, text)
    by_modality = {"text": VARIABLES[text], "visual": VARIABLES["visual"]}
    features = {p: {m: matrices[name + end] for m, name in by_modality.items()} for p, end in ENDINGS.items()}
    _check_alike(path, features)
    lists = {file: _read_list(file) for file in find_files(source, {".list"})}
    parts = {}
    for name, found in features.items():
        file = _fitting(source, name, lists, len(found["text"]))
        ids, categories, _ = zip(*lists[file], strict=True)
        parts[name] = Part(name, found, np.array(categories, np.int64) - 1, ids, file)
    refuse_doubles((document, where) for part in parts.values() for document, _, where in lists[part.path])
    return path, parts


def _find_matrices(source: Path, text: Text) -> tuple[Path, dict[str, Matrix]]:
    """The one MAT-file with all variables that are needed, and these."""
    needed = [VARIABLES[kind] + end for kind in (text, "visual") for end in ENDINGS.values()]
    paths = list(find_files(source, {".mat"}))
    found = {path: matrices for path in paths if (matrices := read_matrices(path, needed)).keys() == set(needed)}
    if len(found) != 1:
        problem = f"{len(found)} MAT-files hold" if found else "no MAT-file holds"
        raise DataError(
            f"{source}: {problem} {', '.join(needed)} (found: {', '.join(path.name for path in paths) or 'none'}); one "
            f"must, as raw_features.mat does{'; or set dataset.prepare.text=lda' if text == 'tfidf' else ''}"
        )
    return next(iter(found.items()))


def _check_alike(path: Path, features: Mapping[str, Mapping[str, Matrix]]) -> None:
    for name, matrices in features.items():
        for m, matrix in matrices.items():
            columns = features["train"][m].shape[1]
            if matrix.shape != (len(matrices["text"]), columns):
                raise DataError(
                    f"{path}: {m} of {name} is {matrix.shape[0]} x {matrix.shape[1]}, {len(matrices['text'])} x "
                    f"{columns} fits text and train; download it again"
                )
            if not np.isfinite(matrix).all():
                raise DataError(f"{path}: {m} of {name} has values that are not finite; download it again")


def _read_list(path: Path) -> list[tuple[str, int, str]]:
    """(name of the text, number of the category, "FILE:LINE") by line."""
    return list(_entries(path))


def _entries(path: Path) -> Iterator[tuple[str, int, str]]:
    numbers = {str(number): number for number in range(1, len(CATEGORIES) + 1)}
    for where, line in numbered_lines(path):
        fields = line.split("\t")
        if len(fields) != 3 or fields[2] not in numbers:
            raise DataError(
                f"{where}: {shown(line)} is not a text, a picture and a category from 1 to {len(CATEGORIES)}, with "
                "tabs between; give the list as it was downloaded"
            )
        yield fields[0], numbers[fields[2]], where


def _fitting(source: Path, part: str, lists: Mapping[Path, list[tuple[str, int, str]]], rows: int) -> Path:
    """The list of a part: the one with as many lines as its matrices have rows; of several, the one named for it."""
    fitting = [path for path, entries in lists.items() if len(entries) == rows]
    named = fitting if len(fitting) == 1 else [path for path in fitting if part in path.name]
    if len(named) != 1:
        lengths = ", ".join(f"{path.name} has {len(entries)}" for path, entries in lists.items()) or "there is none"
        raise DataError(
            f"{source}: {part} has {rows} documents, and not one list (.list) of as many lines ({lengths}); give "
            f"{part}set_txt_img_cat.list as it was downloaded"
        )
    return named[0]
