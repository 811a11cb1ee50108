"""Sources of the dataset "arrays": three files of four modalities whose means tell the class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.arrays import Arrays
from data_prep.job import ignore
from drcli.data.format import SPLITS, DatasetInfo

SIZES = {"train": 30, "val": 9, "test": 12}
CLASSES = ("cat", "dog", "emu")
Save = Callable[..., None]


def samples(split: str) -> dict[str, Any]:
    """Labels, spectrograms, pictures and sequences whose means tell the class."""
    rows, generator = SIZES[split], np.random.default_rng(SIZES[split])
    labels = generator.permutation(np.arange(rows) % 3)
    sound = labels[:, None, None, None] + 0.1 * generator.standard_normal((rows, 1, 8, 8))
    return {
        "labels": np.array(CLASSES)[labels],
        "audio": sound.astype(np.float32),
        "visual": (80 * labels[:, None, None, None] + generator.integers(0, 50, (rows, 3, 8, 8))).astype(np.uint8),
        "text": generator.standard_normal((rows, 4, 5)).astype(np.float16),
        "text_lengths": generator.integers(1, 5, rows),
    }


def write(folder: Path, *, save: Save = np.savez, without: str = "", **changed: Mapping[str, Any]) -> Path:
    """A source; `train={"audio": None}` leaves that array out, any other value takes its place."""
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        arrays = {**samples(split), **changed.get("every", {}), **changed.get(split, {})}
        if split != without:
            save(folder / f"{split}.npz", **{name: array for name, array in arrays.items() if array is not None})
    return folder


def labelled(columns: Mapping[str, Any]) -> dict[str, Any]:
    """What `write` takes for sources with these labels."""
    return {split: {"labels": column} for split, column in columns.items()}


def prepare(
    source: Path,
    out: Path,
    *,
    limit: int | None = None,
    note: Any = ignore,
    warn: Any = ignore,
    **settings: Any,
) -> DatasetInfo:
    chosen = Arrays.Settings.model_validate(settings)
    return Arrays(chosen).run(source=source, out=out, limit=limit, note=note, warn=warn)


def ids(out: Path, split: str) -> list[str]:
    return (out / split / "ids.txt").read_text().splitlines()
