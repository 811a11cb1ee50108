"""A tiny avmnist download, made by hand: 10 digits, takes 0-11 of one speaker, 30 images a digit."""

from __future__ import annotations

import gzip
import wave
from pathlib import Path

import numpy as np


def write_wav(path: Path, samples: np.ndarray, *, rate: int = 8000, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(2)
        stream.setframerate(rate)
        stream.writeframes(samples.astype("<i2").tobytes())


def idx_bytes(array: np.ndarray) -> bytes:
    header = np.array([0x0800 + array.ndim, *array.shape], dtype=">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def write_part(folder: Path, part: str, per_digit: int) -> None:
    """Mixtures of eight patterns, fewer than there are images, so that PCA can keep all of them."""
    generator = np.random.default_rng(len(part))
    labels = np.tile(np.arange(10), per_digit)
    patterns = np.random.default_rng(0).choice([-1, 1], (8, 28, 28))
    amplitudes = generator.uniform(-1, 1, (len(labels), 8)) * [40, 25, 15, 10, 8, 6, 4, 3]
    images = 128 + np.tensordot(amplitudes, patterns, axes=1)
    (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images.round()))
    (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels), mtime=0))


def write_download(folder: Path, *, parts: tuple[str, ...] = ("t10k",), takes: int = 12) -> Path:
    """Make the folder `download` in a folder."""
    source = folder / "download"
    (source / "recordings").mkdir(parents=True)
    seconds = np.arange(4000) / 8000
    for digit in range(10):
        for take in range(takes):
            length = 9000 if take == 11 else 2000 + 100 * take
            tone = 8000 * np.sin(2 * np.pi * (300 + 100 * digit + 7 * take) * seconds)
            write_wav(source / "recordings" / f"{digit}_ann_{take}.wav", np.resize(tone, length))
    for part in parts:
        write_part(source, part, per_digit=30)
    return source
