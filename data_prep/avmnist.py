"""avmnist: MNIST images and spoken digits (FSDD), paired within class.

After Vielzeuf et al. 2018, "CentralNet: a multilayer approach for multimodal fusion": 75 % of the
energy of the images is removed by PCA, the sound is a spectrogram. Deviations: the recordings are
those of the Free Spoken Digit Dataset with its official test takes, and the spectrogram is log-mel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.base import DownloadPreparer, Filled
from data_prep.job import Job
from data_prep.media.audio import add_white_noise, log_mel
from data_prep.sources import mnist_idx
from data_prep.sources.fsdd import RATE, Recording, list_recordings, read_wav
from data_prep.sources.pairing import pair_images, share_images
from data_prep.sources.pca import Floats, Reduction, fit_reduction
from data_prep.writing.provenance import content_digest
from data_prep.writing.splits import Indices, check_classes, limit_splits, row_generator, stratified_order
from data_prep.writing.writer import DatasetWriter, SplitWriter
from drcli.data.format import SPLITS
from drcli.errors import DataError

CLASSES = tuple("0123456789")
_CHUNK = 100  # recordings from one progress report to the next


@dataclass(frozen=True)
class Images:
    """The MNIST images of a download.

    Attributes:
        vectors: (N, 784) bytes.
        labels: (N,) digit of each image.
        groups: image indices by the splits that they serve.
    """

    vectors: NDArray[np.uint8]
    labels: Indices
    groups: Mapping[tuple[str, ...], Indices]


@dataclass(frozen=True)
class Row:
    """One row of a prepared split: a recording, the image it is paired with, and which draw it is."""

    recording: Recording
    image: int
    draw: int


class Avmnist(DownloadPreparer):
    """Spoken and written digits, modalities `audio` (1, 40, 51) and `visual` (1, 28, 28)."""

    name = "avmnist"

    class Settings(DownloadPreparer.Settings):
        """The recipe's `dataset.prepare` block."""

        image_energy: float = Field(0.25, gt=0, le=1, description="part of the variance of the images that PCA keeps")
        image_noise: float = Field(
            0.0, ge=0, le=100, allow_inf_nan=False, description="standard deviation of the noise on images in [0, 1]"
        )
        audio_snr_db: float | None = Field(
            None,
            ge=-60,
            le=60,
            description="power of a recording over that of white noise, in dB; null: no noise",
        )
        draws: int = Field(
            4, ge=1, le=10_000, description="images with which each validation and test recording is paired"
        )
        pool: int | None = Field(
            0,
            ge=0,
            le=1_000_000,
            description="training images kept beside the pairs, for `training.pairs: each_epoch`; null: all that "
            "validation and test do not use; 0: none",
        )
        seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of the images' split, the pairing and the noise")

    settings: Settings

    def fingerprint(self, source: Path) -> str:
        """Digest of all recordings and images, by name."""
        lines = (f"{path.name} {content_digest(path)}\n" for path in _source_files(source))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def fill(self, job: Job) -> Filled:
        """Pair recordings with images and write the three splits."""
        recordings, images = list_recordings(job.download), read_images(job.download)
        if len(images.groups) == 1:
            job.warn(
                f"{job.download}: no MNIST training files, so the smaller set is made: "
                f"all images come from the {len(images.labels)} of t10k"
            )
        kept = self._choose(recordings, job)
        pools, pairs = self._pair(recordings, images)
        reduction = fit_reduction(images.vectors[pools["train"]], self.settings.image_energy)
        writer = DatasetWriter(job.out, name=self.name, classes=CLASSES)
        for split in SPLITS:
            rows = [row for take in kept[split] for row in pairs[take]]
            labels = [row.recording.digit for row in rows]
            part = writer.split(split, labels=labels, ids=[row.recording.name for row in rows])
            for done in self._fill(part, rows, images, reduction):
                job.progress(f"avmnist: {split}", done, len(rows))
            if split == "train":
                self._fill_pool(part, pools["train"], images, reduction, job)
        counts = {"recordings": len(recordings), "images": len(images.labels)}
        return Filled(writer, counts)

    def _choose(self, recordings: Sequence[Recording], job: Job) -> dict[str, list[Recording]]:
        """The recordings of each split, after the limit."""
        digits = np.array([recording.digit for recording in recordings])
        members = {split: np.flatnonzero([take.split == split for take in recordings]) for split in SPLITS}
        kept = limit_splits(members, digits, job.limit, row_generator(self.settings.seed, "limit"))
        check_classes(kept, digits, CLASSES, job.warn)
        return {split: [recordings[index] for index in indices] for split, indices in kept.items()}

    def _pair(
        self, recordings: Sequence[Recording], images: Images
    ) -> tuple[dict[str, Indices], dict[Recording, list[Row]]]:
        """Image indices by split, and the rows of each recording.

        All recordings are paired, whatever the limit, so that a row is the same with and without it.
        """
        draws = {split: 1 if split == "train" else self.settings.draws for split in SPLITS}
        takes = {split: [take for take in recordings if take.split == split] for split in SPLITS}
        digits = {split: np.array([take.digit for take in takes[split]]) for split in SPLITS}
        needs = {split: draws[split] * np.bincount(digits[split], minlength=len(CLASSES)) for split in SPLITS}
        if self.settings.pool != 0:
            needs["train"] = np.maximum(needs["train"], spare_images(images, needs))
        generator = row_generator(self.settings.seed, "pairing")
        pools = share_images(images.labels, images.groups, needs, generator)
        rows = {}
        for split in SPLITS:
            chosen = pair_images(digits[split], pools[split], images.labels, draws[split], split=split)
            for take, partners in zip(takes[split], chosen.tolist(), strict=True):
                rows[take] = [Row(take, image, draw) for draw, image in enumerate(partners)]
        return pools, rows

    def _fill(self, part: SplitWriter, rows: Sequence[Row], images: Images, reduction: Reduction) -> Iterator[int]:
        """Write both arrays of a split; yields the number of rows done."""
        visual = part.array("visual", (1, 28, 28), "float16")
        audio = part.array("audio", (1, 40, 51), "float16")
        for start in range(0, len(rows), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            reduced = reduction.apply(images.vectors[[row.image for row in rows[chunk]]]) / 255
            drawn = [self._draw(row, vector) for row, vector in zip(rows[chunk], reduced, strict=True)]
            visual[chunk, 0] = np.stack([vector for vector, _ in drawn]).reshape(-1, 28, 28)
            audio[chunk, 0] = log_mel(np.stack([wave for _, wave in drawn]), rate=RATE)
            yield min(start + _CHUNK, len(rows))

    def _fill_pool(
        self, part: SplitWriter, images: Indices, everything: Images, reduction: Reduction, job: Job
    ) -> None:
        """Write the training split's images beyond its pairs, `pool` of them, classes in their shares."""
        sizes = (self.settings.pool, job.limit, len(images))
        size = min(number for number in sizes if number is not None)
        if size == 0:
            return
        job.note(f"visual: {size} training images are kept beside the pairs, for training.pairs=each_epoch")
        labels = everything.labels[images]
        chosen = images[stratified_order(labels, row_generator(self.settings.seed, "pool"))[:size]]
        pool = part.pool("visual", everything.labels[chosen].tolist())
        for start in range(0, size, _CHUNK):
            chunk = chosen[start : start + _CHUNK]
            reduced = reduction.apply(everything.vectors[chunk]) / 255
            noise = [row_generator(self.settings.seed, f"image-{image}").standard_normal(28 * 28) for image in chunk]
            pool[start : start + _CHUNK, 0] = (reduced + self.settings.image_noise * np.stack(noise)).reshape(
                -1, 28, 28
            )
            job.progress("avmnist: pool", min(start + _CHUNK, size), size)

    def _draw(self, row: Row, vector: Floats) -> tuple[Floats, Floats]:
        """One image (784,) and one second of sound (8000,), with their noise."""
        generator = row_generator(self.settings.seed, row.recording.name, row.draw)
        noisy = vector + self.settings.image_noise * generator.standard_normal(len(vector))
        recording = read_wav(row.recording.path)[:RATE]
        wave = np.pad(recording, (0, RATE - len(recording)))
        if self.settings.audio_snr_db is not None:
            # The silence added at the end gets the same noise, and does not count as signal.
            power = float(np.mean(recording**2))
            wave = add_white_noise(wave, self.settings.audio_snr_db, generator, power=power)
        return noisy, wave


def spare_images(images: Images, needs: Mapping[str, Indices]) -> Indices:
    """How many images of each class training can have when the other splits get what they need, (C,)."""
    ((group, members),) = [(group, members) for group, members in images.groups.items() if "train" in group]
    there = np.bincount(images.labels[members], minlength=len(CLASSES))
    return np.asarray(there - sum(needs[split] for split in group if split != "train"), np.int64)


def read_images(source: Path) -> Images:
    """The MNIST images of a download: of both parts, or of t10k alone.

    With both parts, test images come from t10k and the others from the training files, as published.

    Raises:
        DataError: the t10k files are missing, or a file is damaged.
    """
    parts = mnist_files(source)
    pixels, labels = zip(*(mnist_idx.read_part(*paths) for paths in parts), strict=True)
    everything = np.arange(sum(len(part) for part in labels))
    groups: dict[tuple[str, ...], Indices] = {SPLITS: everything}
    if len(parts) == 2:
        first = len(labels[0])
        groups = {("train", "val"): everything[:first], ("test",): everything[first:]}
    return Images(np.concatenate(pixels).reshape(-1, 28 * 28), np.concatenate(labels), groups)


def mnist_files(source: Path) -> list[tuple[Path, Path]]:
    """Images and labels file of the training part, if it is there, and of t10k.

    Raises:
        DataError: the t10k files are missing, or one file of a pair.
    """
    train, t10k = (mnist_idx.find_part(source, part) for part in mnist_idx.PARTS)
    if t10k is None:
        raise DataError(
            f"{source}: t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or .gz) are missing; "
            "they are MNIST's test images and labels"
        )
    return [paths for paths in (train, t10k) if paths is not None]


def _source_files(source: Path) -> list[Path]:
    """Every file that is read, in a fixed order."""
    return [take.path for take in list_recordings(source)] + [p for pair in mnist_files(source) for p in pair]
