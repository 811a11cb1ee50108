"""Preparing a small download in a test, and what was written of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_prep.base import Preparer
from drcli.data.format import DatasetInfo


def prepared_with(
    preparer: type[Preparer],
    small: dict[str, Any],
    source: Path,
    out: Path,
    *,
    options: dict[str, Any] | None = None,
    **settings: Any,
) -> DatasetInfo:
    """Prepare `source` with the settings of `small` and others in their place; warnings are dropped."""
    chosen = preparer.Settings.model_validate({**small, **settings})
    return preparer(chosen).run(source=source, out=out, **{"warn": lambda _: None, **(options or {})})


def rows_of(names: tuple[str, str], out: Path, split: str) -> tuple[np.ndarray, np.ndarray, list[int], list[str]]:
    """Return the arrays of two modalities, labels and ids of a split."""
    first, second, labels = (np.load(out / split / f"{name}.npy") for name in (*names, "labels"))
    return first, second, labels.tolist(), (out / split / "ids.txt").read_text().splitlines()
