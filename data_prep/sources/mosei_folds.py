"""The standard folds of CMU-MOSEI, from the CMU SDK's file cmu_mosei_std_folds.py, which is read, never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.sources.listfiles import read_text
from drcli.data.format import SPLITS
from drcli.errors import DataError

FOLDS_FILE = "cmu_mosei_std_folds.py"
SIZES = {"train": 2249, "val": 300, "test": 678}
"""Videos of each split."""

_NAMES = {"standard_train_fold": "train", "standard_valid_fold": "val", "standard_test_fold": "test"}
_LONGEST = 10**6  # characters; the file has 46,028

Folds = Mapping[str, frozenset[str]]


def read_folds(path: Path) -> Folds:
    """Video ids by split.

    Raises:
        DataError: the file does not assign three lists of text and nothing else, or a video is in two of them.
    """
    text = read_text(path)
    lists = {name: ids for name, ids in _assignments(text[:_LONGEST], path) if name in _NAMES}
    if set(lists) != set(_NAMES) or len(text) > _LONGEST:
        raise DataError(f"{path}: does not assign {', '.join(_NAMES)}; get it from the CMU SDK")
    folds = {split: frozenset(lists[name]) for name, split in _NAMES.items()}
    for split in SPLITS:
        others = frozenset[str]().union(*(folds[other] for other in SPLITS if other != split))
        if folds[split] & others:
            raise DataError(f"{path}: video {min(folds[split] & others)} is in {split} and in another fold")
    return folds


def _assignments(text: str, path: Path) -> list[tuple[str, list[str]]]:
    """Names and lists of texts of the statements `name = [...]`."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{path}: is not the CMU SDK's file of folds; get it from there") from error
    return [found for statement in statements for found in _assigned(statement)]


def _assigned(statement: Any) -> list[tuple[str, list[str]]]:
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.List):
        return []
    values = [getattr(item, "value", None) for item in statement.value.elts]
    if not all(isinstance(value, str) for value in values):
        return []
    return [(target.id, values) for target in statement.targets if isinstance(target, ast.Name)]  # type: ignore[misc]


def mosei_video(name: str) -> str | None:
    """The video of a segment called "video[...]", "video$_$k" or "video_k", or by its video alone; else None.

    An id is any text of letters, digits, dashes and underscores; some are numbers.
    """
    match = re.fullmatch(r"([\w-]+?)(?:\[[^\]]*\]|\$_\$\d+|_\d+)?", name, re.ASCII)
    return match[1] if match else None
