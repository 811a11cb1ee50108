"""Batches of one split: which rows, in which order, made into inputs on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from drcli.data import transforms
from drcli.data.format import ModalityInfo
from drcli.data.input import Corruption, InputSettings
from drcli.data.prepared import Split
from drcli.seeding import generator

PICTURES = ("frames", "flow")


@dataclass(frozen=True)
class Batch:
    """Rows of a split, on the device.

    Attributes:
        inputs: inputs {m: (B, ...)}, float32.
        labels: class indices (B,), int64.
        index: row numbers in the split (B,), int64, on the CPU.
        lengths: valid steps {m: (B,)} of the modalities that are sequences.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    index: Tensor
    lengths: dict[str, Tensor] = field(default_factory=dict)

    def split(self, count: int) -> tuple[Batch, ...]:
        """Return the batch in `count` parts of nearly equal size, each of two rows or more where it can be."""
        if count == 1:
            return (self,)
        size = -(-len(self.labels) // count)
        return tuple(self._rows(rows) for rows in parts(torch.arange(len(self.labels)), size))

    def _rows(self, rows: Tensor) -> Batch:
        span = slice(int(rows[0]), int(rows[-1]) + 1)
        inputs = {m: x[span] for m, x in self.inputs.items()}
        lengths = {m: x[span] for m, x in self.lengths.items()}
        return Batch(inputs, self.labels[span], self.index[span], lengths)


@dataclass(frozen=True)
class InputPlan:
    """How a modality's stored arrays become inputs.

    Attributes:
        info: how it is stored.
        settings: frames, size and flip of the recipe.
        corruption: noise on the input, or None.
    """

    info: ModalityInfo
    settings: InputSettings = field(default_factory=InputSettings)
    corruption: Corruption | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        if self.info.kind not in PICTURES:
            return self.info.shape
        stored, channels, height, width = self.info.shape
        size = self.settings.size
        return (self.settings.frames or stored, channels, size or height, size or width)


class Batches:
    """Makes the batches of one split.

    Rows are read from the split's memory maps, or from the device where `device` is an accelerator and
    the arrays fit into half of its free memory.

    Args:
        split: the split.
        plans: how each modality becomes inputs, in the recipe's order.
        device: where batches go.
    """

    def __init__(self, split: Split, plans: Mapping[str, InputPlan], device: torch.device) -> None:
        self.split = split
        self.device = device
        self.plans = dict(plans)
        self._norms = {m: _norm(plan.info, device) for m, plan in plans.items()}
        self._arrays = {m: split.arrays[m] for m in plans}
        self._labels = split.labels
        if _fits(self._arrays, device):
            self._arrays = {m: array.to(device) for m, array in self._arrays.items()}
            self._labels = self._labels.to(device)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.split.labels)

    def in_order(self, batch_size: int, rows: Tensor | None = None) -> Iterator[Batch]:
        """All rows in stored order, or the given ones, with evaluation transforms; the last batch may be smaller.

        Noise is fixed: it depends on split, row and modality alone.
        """
        for index in parts(torch.arange(len(self)) if rows is None else rows, batch_size):
            yield self.take(index)

    def shuffled(
        self, batch_size: int, order: torch.Generator, augment: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """All rows in a random order; the last batch may be smaller.

        Args:
            batch_size: rows of a batch.
            order: CPU generator that the order is drawn from.
            augment: CPU generator of frames, crops, flips and noise; without it, evaluation transforms.
        """
        for index in parts(torch.randperm(len(self), generator=order), batch_size):
            yield self.take(index, augment)

    def take(self, index: Tensor, augment: torch.Generator | None = None) -> Batch:
        """Return the rows `index` (B,) as a batch, with evaluation transforms unless `augment` is given."""
        flips = None
        if augment is not None and any(plan.settings.flip for plan in self.plans.values()):
            flips = torch.rand(len(index), generator=augment) < 0.5
        inputs = {m: self._input(m, index, augment, flips) for m in self.plans}
        lengths = {m: steps[index].to(self.device) for m, steps in self.split.lengths.items() if m in self.plans}
        return Batch(inputs, _rows(self._labels, index).to(self.device), index, lengths)

    def _input(self, modality: str, index: Tensor, augment: torch.Generator | None, flips: Tensor | None) -> Tensor:
        plan, array = self.plans[modality], self._arrays[modality]
        if plan.info.kind in PICTURES:
            inputs = self._pictures(plan, array, index, augment)
        else:
            inputs = _rows(array, index).to(self.device, torch.float32)
        mean, scale = self._norms[modality]
        inputs = inputs.sub_(mean).mul_(scale)
        if modality in self.split.lengths:
            inputs = _without_padding(inputs, self.split.lengths[modality][index])
        if flips is not None and plan.settings.flip:
            inputs = transforms.mirror(inputs, flips, is_flow=plan.info.kind == "flow")
        if plan.corruption is not None and self.split.name in plan.corruption.splits:
            noise = self._noise(modality, index, inputs.shape[1:], augment)
            inputs = transforms.add_noise(inputs, noise, plan.corruption.snr_db)
        return inputs

    def _pictures(self, plan: InputPlan, array: Tensor, index: Tensor, augment: torch.Generator | None) -> Tensor:
        """Choose frames, then crop (in training) or resize; (B, T, C, H, W) float32 on the device."""
        stored, wanted, size = array.shape[1], plan.shape[0], plan.settings.size
        if augment is None:
            frames = transforms.middle_frames(stored, wanted).expand(len(index), -1)
        else:
            frames = transforms.random_frames(len(index), stored, wanted, augment)
        rows = array[index.to(array.device)[:, None], frames.to(array.device)]
        pictures = rows.to(self.device, torch.float32)
        if size is None:
            return pictures
        if augment is None:
            return transforms.resize(pictures, size)
        height, width = pictures.shape[-2:]
        boxes = transforms.random_boxes(len(index), height, width, augment)
        return transforms.crop_and_resize(pictures, boxes, size)

    def _noise(self, modality: str, index: Tensor, shape: tuple[int, ...], augment: torch.Generator | None) -> Tensor:
        """Standard normal (B, *shape): new in every epoch of training, fixed by row in evaluation."""
        if augment is not None:
            return torch.randn(len(index), *shape, generator=augment)
        streams = (generator(0, "noise", self.split.name, modality, row) for row in index.tolist())
        return torch.stack([torch.randn(*shape, generator=stream) for stream in streams])


def parts(index: Tensor, size: int) -> tuple[Tensor, ...]:
    """Split row numbers into batches; a row that would be left alone joins the batch before it.

    Batch normalisation has no variance over a single row.
    """
    if size > 1 and len(index) > size and len(index) % size == 1:
        *full, _ = torch.split(index, size)
        return (*full[:-1], index[len(index) - size - 1 :])
    return torch.split(index, size)


def _norm(info: ModalityInfo, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and inverse standard deviation, shaped to the channel axis of a batch."""
    trailing = 0 if info.kind == "sequence" or len(info.mean) == 1 else 2
    mean, std = (torch.tensor(values).reshape(-1, *[1] * trailing) for values in (info.mean, info.std))
    return mean.to(device), std.reciprocal().to(device)


def _without_padding(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Set the steps of (B, L, D) beyond each row's length to 0."""
    valid = torch.arange(inputs.shape[1], device=inputs.device) < lengths.to(inputs.device)[:, None]
    return inputs * valid[:, :, None]


def _rows(array: Tensor, index: Tensor) -> Tensor:
    return array.index_select(0, index.to(array.device))


def _fits(arrays: Mapping[str, Tensor], device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(array.nbytes for array in arrays.values()) <= free // 2
