"""Prepared datasets of made-up content: the sizes and types of real ones, classes that can be learnt."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from data_prep.media.pictures import FRAME_SIZE, IMAGENET
from data_prep.writing.rows import ArraySpec
from data_prep.writing.writer import DatasetWriter
from drcli.data.parts import Stored
from drcli.data.prepared import PreparedDataset, open_dataset
from drcli.errors import UsageError

ROWS_AT_ONCE = 64
CREMAD_CLIPS = {"train": 5954, "val": 744, "test": 744}
CREMAD_AUDIO = {"fbank": (1, 128, 1024), "stft": (1, 257, 188)}


@dataclass(frozen=True)
class Made:
    """What a made-up dataset holds.

    Attributes:
        name: of the dataset.
        classes: their number.
        rows: rows by split.
        arrays: what is stored, by modality.
        settings: the `dataset.prepare` block that it claims.
    """

    name: str
    classes: int
    rows: Mapping[str, int]
    arrays: Mapping[str, ArraySpec]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        one = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in self.arrays.values())
        return one * sum(self.rows.values())


def cremad_like(clips: int, audio: str, settings: Mapping[str, Any]) -> Made:
    """CREMA-D as `drcli prepare` stores it: a spectrogram, six frames with a short side of 256.

    Args:
        clips: training clips; the other splits keep their proportion to it, and a dozen clips at least.
        audio: "fbank" or "stft".
        settings: the `dataset.prepare` block.
    """
    share = clips / CREMAD_CLIPS["train"]
    held_out = {split: max(12, round(share * CREMAD_CLIPS[split])) for split in ("val", "test")}
    arrays = {
        "audio": ArraySpec(CREMAD_AUDIO[audio], "float16"),
        "visual": ArraySpec((6, 3, *FRAME_SIZE), "uint8", kind="frames", statistics=IMAGENET),
    }
    return Made("cremad", 6, {"train": clips, **held_out}, arrays, settings)


def check_room(folder: Path, nbytes: int, remedy: str) -> None:
    """Refuse to fill the disk.

    Raises:
        UsageError: less is free there than that and a gigabyte; `remedy` is said.
    """
    free = shutil.disk_usage(folder).free
    if nbytes + 2**30 > free:
        raise UsageError(
            f"{folder}: {nbytes / 1e9:.1f} GB and some to spare are needed, {free / 1e9:.1f} are free; {remedy}"
        )


def make(root: Path, made: Made) -> PreparedDataset:
    """Write a made-up dataset into a new folder, and open it."""
    root.mkdir()
    rng = np.random.default_rng(0)
    writer = DatasetWriter(root, name=made.name, classes=tuple(f"class {number}" for number in range(made.classes)))
    patterns = {m: _patterns(spec, made.classes, rng) for m, spec in made.arrays.items()}
    for split, rows in made.rows.items():
        labels = np.arange(rows) % made.classes
        part = writer.split(split, labels=labels.tolist(), ids=[f"{split} {row}" for row in range(rows)])
        for m, spec in made.arrays.items():
            array = part.array(m, spec.shape, spec.dtype, kind=spec.kind, statistics=spec.statistics)
            _fill(array, patterns[m], labels, rng)
    writer.finish(settings=made.settings, source={"fingerprint": "made up", "limit": None})
    return open_dataset(root)


def _patterns(spec: ArraySpec, classes: int, rng: np.random.Generator) -> NDArray[Any]:
    """One picture a class (C, ..., H, W), about as hard to compress as a photograph, in [0, 255]; or numbers."""
    if spec.dtype != "uint8":
        return rng.standard_normal((classes, *spec.shape), dtype=np.float32)
    *_, channels, height, width = spec.shape
    coarse = torch.from_numpy(rng.uniform(40, 215, (classes, channels, height // 16, width // 16)))
    smooth = functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).numpy()
    grain = rng.normal(0, 3, smooth.shape)
    return (smooth + grain).clip(0, 255).astype(np.uint8)


def _fill(array: Stored, patterns: NDArray[Any], labels: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Give every row its class's pattern: pictures shifted sideways by chance, numbers with noise as strong."""
    for start in range(0, len(array), ROWS_AT_ONCE):
        chosen = labels[start : start + ROWS_AT_ONCE]
        if array.dtype != np.uint8:
            noise = rng.standard_normal((len(chosen), *array.shape[1:]), dtype=np.float32)
            array[start : start + len(chosen)] = patterns[chosen] + noise
            continue
        for row, label in enumerate(chosen, start):
            for frame in array[row]:
                frame[:] = np.roll(patterns[label], rng.integers(array.shape[-1]), axis=-1)
