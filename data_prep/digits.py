"""digits: handwritten digits and the telephone tone of the same digit. Embedded, no download.

The pictures are the 1,797 images of 8 x 8 pixels that come with scikit-learn. The sound is the
digit's dual-tone multi-frequency signal (ITU-T Q.23), synthesised. Both are drowned in noise, so
that neither modality alone decides and the comparison of methods has room.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.base import EmbeddedPreparer, Filled
from data_prep.job import Job
from data_prep.media.audio import add_white_noise, log_power_spectrogram
from data_prep.writing.splits import Indices, check_classes, limit_splits, row_generator, stratified_split
from data_prep.writing.writer import DatasetWriter, SplitWriter

SIZES = {"train": 900, "val": 300, "test": 597}  # images by split
CLASSES = tuple("0123456789")

RATE = 8000  # Hz
NUM_STEPS = RATE // 4  # 0.25 s
KEYPAD = "123456789*0#"
ROWS = (697.0, 770.0, 852.0, 941.0)  # Hz, from the top of the keypad down
COLUMNS = (1209.0, 1336.0, 1477.0)  # Hz, from left to right
JITTER = 0.01  # each frequency is off by up to 1 %
AMPLITUDES = (0.3, 1.0)

_CHUNK = 256  # rows from one progress report to the next


class Digits(EmbeddedPreparer):
    """The embedded default dataset, modalities `audio` (1, 64, 16) and `visual` (1, 8, 8)."""

    name = "digits"

    class Settings(EmbeddedPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        image_noise: float = Field(
            0.5, ge=0, le=100, allow_inf_nan=False, description="standard deviation of the noise on images in [0, 1]"
        )
        audio_snr_db: float = Field(
            -12.0, ge=-60, le=60, description="power of both tones over that of the noise in the waveform, in dB"
        )
        draws: int = Field(
            4, ge=1, le=10_000, description="samples per validation and test image, each with its own tone and noise"
        )
        seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of the split, the tones and the noise")

    settings: Settings

    def fingerprint(self) -> str:
        """Digest of the images and labels as scikit-learn holds them."""
        images, labels = read_digits()
        return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()

    def fill(self, job: Job) -> Filled:
        """Draw every row from its own generator and write the three splits."""
        images, labels = read_digits()
        generator = row_generator(self.settings.seed, "split")
        splits = stratified_split(labels, SIZES, generator)
        splits = limit_splits(splits, labels, job.limit, generator)
        check_classes(splits, labels, CLASSES, job.warn)
        writer = DatasetWriter(job.out, name=self.name, classes=CLASSES)
        for split, members in splits.items():
            draws = 1 if split == "train" else self.settings.draws
            rows = [(index, draw) for index in members.tolist() for draw in range(draws)]
            part = writer.split(
                split, labels=[labels[index] for index, _ in rows], ids=[_name(index) for index, _ in rows]
            )
            for done in self._fill(part, images, labels, rows):
                job.progress(f"digits: {split}", done, len(rows))
        return Filled(writer, {})

    def _fill(
        self, part: SplitWriter, images: NDArray[np.uint8], labels: Indices, rows: list[tuple[int, int]]
    ) -> Iterator[int]:
        """Write both arrays of a split, rows being (image, draw); yields the number of rows done."""
        visual = part.array("visual", (1, 8, 8), "float16")
        audio = part.array("audio", (1, 64, 16), "float16")
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            drawn = [
                self._draw(images[index], labels[index], row_generator(self.settings.seed, _name(index), draw))
                for index, draw in rows[chunk]
            ]
            visual[chunk, 0] = np.stack([image for image, _ in drawn])
            audio[chunk, 0] = log_power_spectrogram(np.stack([wave for _, wave in drawn]))
            yield min(start + _CHUNK, len(rows))

    def _draw(
        self, image: NDArray[np.uint8], digit: int, generator: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """One noisy image (8, 8) and one noisy tone (2000,)."""
        noisy = image / 16 + self.settings.image_noise * generator.standard_normal(image.shape)
        tone = dtmf_tone(digit, generator)
        power = float(np.mean(tone**2))
        return noisy, add_white_noise(tone, self.settings.audio_snr_db, generator, power=power)


def read_digits() -> tuple[NDArray[np.uint8], Indices]:
    """The images (1797, 8, 8) with values 0 ... 16 and their labels (1797,), in scikit-learn's order.

    The file is read from scikit-learn's folder without importing the package, which takes seconds;
    a scikit-learn that keeps it elsewhere reads it itself.
    """
    spec = find_spec("sklearn")
    path = Path(str(spec.origin if spec else "")).parent / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        with gzip.open(path, "rt", encoding="ascii") as stream:
            table = np.loadtxt(stream, delimiter=",", dtype=np.int64)
        images, labels = table[:, :-1], table[:, -1]
    else:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8).astype(np.uint8), np.ascontiguousarray(labels, dtype=np.int64)


def dtmf_frequencies(digit: int) -> tuple[float, float]:
    """Row and column frequency of a digit's key, in Hz (ITU-T Q.23)."""
    row, column = divmod(KEYPAD.index(str(digit)), 3)
    return ROWS[row], COLUMNS[column]


def dtmf_tone(digit: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """The two tones of a digit over 0.25 s at 8 kHz, (2000,), without noise.

    Each tone has a uniform phase, an amplitude uniform in [0.3, 1] and a frequency uniform within 1 %
    of its nominal value.

    Args:
        digit: 0 ... 9.
        generator: draws jitter, phases and amplitudes.
    """
    frequency = np.array(dtmf_frequencies(digit)) * (1 + generator.uniform(-JITTER, JITTER, 2))
    phase = generator.uniform(0, 2 * np.pi, 2)
    amplitude = generator.uniform(*AMPLITUDES, 2)
    seconds = np.arange(NUM_STEPS) / RATE
    tones: NDArray[np.float64] = np.sin(2 * np.pi * np.outer(frequency, seconds) + phase[:, None])
    return amplitude @ tones


def _name(index: int) -> str:
    """The id of an image: its place in scikit-learn's order, from 0."""
    return f"digits-{index:04d}"
