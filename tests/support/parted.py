"""A dataset of every kind of modality, of numbers that no machine rounds, whose arrays may lie in several files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.writing.writer import DatasetWriter
from drcli.data.format import SPLITS, DatasetInfo

ROWS = {"train": 23, "val": 8, "test": 5}
POOL = 12


def write(root: Path) -> DatasetInfo:
    """Write it into a new folder: pictures with a pool, frames that rows may lack, a sequence, a vector and tokens."""
    root.mkdir()
    writer = DatasetWriter(root, name="mixed", classes=("ant", "bee"))
    for split in SPLITS:
        rows = ROWS[split]
        number = np.arange(rows)
        part = writer.split(split, labels=(number % 2).tolist(), ids=[f"{split}{n}" for n in number])
        part.array("picture", (1, 2, 2), "float16")[:] = number[:, None, None, None]
        part.array("film", (2, 3, 1, 1), "uint8", kind="frames")[:, 1] = (number % 4 * 2)[:, None, None, None]
        part.present("film", number % 3 > 0)
        part.array("words", (3, 2), "float32", kind="sequence")[:, :2] = (number % 2)[:, None, None] + [1.0, 4.0]
        part.lengths("words", [2] * rows)
        part.array("row", (2,), "float32", kind="vector")[:] = number[:, None] % 2 * [2.0, 4.0]
        ids = part.tokens("text", 4, vocabulary=30, pad=7)
        for row in range(rows):
            ids[row, :2] = row
        part.lengths("text", [2] * rows)
    pool = writer.splits["train"].pool("picture", [n % 2 for n in range(POOL)])
    for start in range(0, POOL, 5):
        pool[start : start + 5, 0] = np.arange(start, min(start + 5, POOL))[:, None, None] / 8
    return writer.finish(settings={}, source={"fingerprint": "f", "limit": None})
