"""Training as public repositories do it: a folder of small files, PIL, worker processes, Python loops.

Everything is done that such a loop needs and nothing is done twice: spectrograms are computed before,
workers stay alive between epochs, and memory is pinned on a GPU. Model, optimiser, batch size, rows and
normalisation are those of the recipe. Pictures are kept in files of 8 bits, JPEG where they are frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from drcli.data.plan import InputPlan
from drcli.data.prepared import PreparedDataset, Split
from drcli.data.transforms import middle_frames
from drcli.engine.assemble import input_plans, recipe_model
from drcli.engine.device import set_determinism
from drcli.optim import build_optimizer
from drcli.recipe.schema import Recipe

Read = Callable[[int], Tensor]
"""The input of one row, by its number."""

Loaders = Mapping[str, DataLoader[tuple[dict[str, Tensor], int]]]
"""Loaders of train and val."""

JPEG_QUALITY = 90


@dataclass(frozen=True)
class ArrayFiles:
    """One .npy file per row, float32.

    Attributes:
        folder: where they are.
        mean: subtracted.
        std: divided by.
    """

    folder: Path
    mean: float
    std: float

    def __call__(self, row: int) -> Tensor:
        """Read and normalise one row."""
        return torch.from_numpy((np.load(self.folder / f"{row}.npy") - self.mean) / self.std)


@dataclass(frozen=True)
class PictureFiles:
    """One file per picture, several per row if they are frames.

    Attributes:
        folder: where they are.
        suffix: of their names.
        stored: pictures of a row; 0 for a single one that is not a frame.
        wanted: how many of them a row takes.
        transform: from a PIL picture to (C, H, W).
        training: whether frames are taken at random, one of each of `wanted` equal parts.
    """

    folder: Path
    suffix: str
    stored: int
    wanted: int
    transform: Callable[[Image.Image], Tensor]
    training: bool

    def __call__(self, row: int) -> Tensor:
        """Open, decode and transform the pictures of one row: (C, H, W), or (T, C, H, W) of frames."""
        if not self.stored:
            return self._read(f"{row}")
        chosen = middle_frames(self.stored, self.wanted).tolist()
        if self.training:
            edges = [part * self.stored // self.wanted for part in range(self.wanted + 1)]
            chosen = [int(torch.randint(edges[i], edges[i + 1], ())) for i in range(self.wanted)]
        return torch.stack([self._read(f"{row}_{frame}") for frame in chosen])

    def _read(self, name: str) -> Tensor:
        with Image.open(self.folder / f"{name}{self.suffix}") as picture:
            return self.transform(picture.convert("RGB") if self.stored else picture)


class Rows(Dataset[tuple[dict[str, Tensor], int]]):
    """A split, one row at a time.

    Args:
        readers: how each modality is read.
        labels: class indices (N,).
    """

    def __init__(self, readers: Mapping[str, Read], labels: Tensor) -> None:
        self.readers = readers
        self.labels = labels.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], int]:
        return {m: read(row) for m, read in self.readers.items()}, self.labels[row]


def export(recipe: Recipe, dataset: PreparedDataset, folder: Path, pictures: Collection[str]) -> dict[str, Rows]:
    """Write train and val of a prepared dataset as small files, and return them as rows.

    Args:
        recipe: says which modalities, and how they become inputs.
        dataset: the prepared dataset.
        folder: where the files go.
        pictures: modalities that are kept as pictures; the others are arrays.
    """
    plans = input_plans(recipe, tuple(recipe.modalities), dataset.info.contents)
    ranges = {m: _range(dataset.split("train").tensor(m)) for m in pictures}
    found = {}
    for name in ("train", "val"):
        split = dataset.split(name)
        readers: dict[str, Read] = {}
        for m, plan in plans.items():
            place = folder / name / m
            place.mkdir(parents=True)
            if m in pictures:
                readers[m] = _write_pictures(split, m, plan, place, ranges[m])
            else:
                readers[m] = _write_arrays(split, m, plan, place)
        found[name] = Rows(readers, split.labels)
    return found


def _range(array: Tensor) -> tuple[float, float]:
    """What 0 and 255 mean in files of 8 bits."""
    return (0.0, 255.0) if array.dtype == torch.uint8 else (float(array.min()), float(array.max()))


def _write_arrays(split: Split, modality: str, plan: InputPlan, place: Path) -> ArrayFiles:
    rows = split.tensor(modality)
    _each(len(rows), lambda row: np.save(place / f"{row}.npy", rows[row].float().numpy()))
    return ArrayFiles(place, plan.info.mean[0], plan.info.std[0])


def _write_pictures(
    split: Split, modality: str, plan: InputPlan, place: Path, bounds: tuple[float, float]
) -> PictureFiles:
    low, high = bounds
    frames = plan.info.kind == "frames"
    suffix = ".jpg" if frames else ".png"
    rows = split.tensor(modality)

    def save(row: int) -> None:
        pixels = ((rows[row].float() - low) / (high - low) * 255).clamp(0, 255).round().to(torch.uint8)
        for number, picture in enumerate(pixels if frames else pixels[None]):
            name = f"{row}_{number}" if frames else f"{row}"
            _image(picture).save(place / f"{name}{suffix}", quality=JPEG_QUALITY)

    _each(len(rows), save)
    training = split.name == "train"
    stored_frames = plan.info.shape[0] if frames else 0
    wanted = plan.shape[0] if frames else 1
    return PictureFiles(place, suffix, stored_frames, wanted, _transform(plan, bounds, training=training), training)


def _each(rows: int, work: Callable[[int], None]) -> None:
    """Do some work for each row, in as many threads as there are cores: encoding does not hold Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(work, range(rows)):
            pass


def _image(picture: Tensor) -> Image.Image:
    """A picture (1 or 3, H, W) of 8 bits as PIL has it."""
    return Image.fromarray(picture[0].numpy() if len(picture) == 1 else picture.permute(1, 2, 0).contiguous().numpy())


def _transform(plan: InputPlan, bounds: tuple[float, float], *, training: bool) -> Callable[[Image.Image], Tensor]:
    low, high = bounds
    size = plan.settings.size
    steps: list[object] = []
    if size is not None:
        steps.append(transforms.RandomResizedCrop(size) if training else transforms.Resize((size, size)))
    if plan.settings.flip and training:
        steps.append(transforms.RandomHorizontalFlip())
    mean = [(value - low) / (high - low) for value in plan.info.mean]
    std = [value / (high - low) for value in plan.info.std]
    composed: Callable[[Image.Image], Tensor] = transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    return composed


def loaders_of(rows: Mapping[str, Rows], batch_size: int, workers: int, device: torch.device) -> Loaders:
    """Loaders over train (shuffled) and val; several loops can share them."""
    return {
        name: DataLoader(
            split,
            batch_size=batch_size,
            shuffle=name == "train",
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
        )
        for name, split in rows.items()
    }


class Loading:
    """The loop's files alone: what an epoch would take if computing were free.

    Args:
        loaders: train and val.
    """

    accuracy = None

    def __init__(self, loaders: Loaders) -> None:
        self.loaders = loaders

    def epochs(self, count: int = 1) -> None:
        """Read every row of train and val, so many times."""
        for loader in self.loaders.values():
            for _ in range(count):
                for _ in loader:
                    pass


class Conventional:
    """The loop.

    Args:
        recipe: of one run; its precision and channels_last hold, nothing else of drcli's speed does.
        dataset: says how samples are shaped.
        loaders: train and val.
        device: where to train.
        checkpoint: file of the best epoch.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: PreparedDataset,
        loaders: Loaders,
        device: torch.device,
        checkpoint: Path,
    ) -> None:
        self.device = device
        self.loaders = loaders
        self.checkpoint = checkpoint
        self.model = recipe_model(recipe, tuple(recipe.modalities), dataset.info.contents).to(device)
        if recipe.training.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(recipe.training.optimizer, self.model.parameters())
        self.best = -1.0
        self.accuracy = 0.0

    def epochs(self, count: int = 1) -> None:
        """Train so many epochs."""
        for _ in range(count):
            self.epoch()

    def epoch(self) -> None:
        """Train on every row once, evaluate, and save the model if it is the best so far."""
        set_determinism(False)
        self._train()
        self.accuracy = self._evaluate()
        if self.accuracy > self.best:
            self.best = self.accuracy
            torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, self.checkpoint)

    def _train(self) -> float:
        self.model.train()
        total = 0.0
        for inputs, labels in self.loaders["train"]:
            self.optimizer.zero_grad()
            outputs = self.model({m: x.to(self.device) for m, x in inputs.items()})
            loss = functional.cross_entropy(outputs.logits, labels.to(self.device))
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loaders["train"])

    def _evaluate(self) -> float:
        self.model.eval()
        right = 0
        with torch.no_grad():
            for inputs, labels in self.loaders["val"]:
                outputs = self.model({m: x.to(self.device) for m, x in inputs.items()})
                for scores, label in zip(outputs.logits.softmax(dim=1), labels, strict=True):
                    right += int(np.argmax(scores.cpu().numpy()) == int(label))
        return right / len(self.loaders["val"].dataset)  # type: ignore[arg-type]
