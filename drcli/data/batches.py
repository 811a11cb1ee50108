"""Batches of one split: which rows, in which order, normalised on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from drcli.data.format import ModalityInfo
from drcli.data.prepared import Split


@dataclass(frozen=True)
class Batch:
    """Rows of a split, on the device.

    Attributes:
        inputs: normalised inputs {m: (B, ...)}, float32.
        labels: class indices (B,), int64.
        index: row numbers in the split (B,), int64, on the CPU.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    index: Tensor


class Batches:
    """Makes the batches of one split.

    Rows are read from the split's memory maps, or from the device where `device` is an accelerator and
    the arrays fit into half of its free memory.

    Args:
        split: the split.
        infos: how each modality is stored.
        modalities: which modalities to read, in the recipe's order.
        device: where batches go.
    """

    def __init__(
        self,
        split: Split,
        infos: Mapping[str, ModalityInfo],
        modalities: Sequence[str],
        device: torch.device,
    ) -> None:
        self.split = split
        self.device = device
        self._norms = {m: (infos[m].mean, 1.0 / infos[m].std) for m in modalities}
        self._arrays = {m: split.arrays[m] for m in modalities}
        self._labels = split.labels
        if _fits(self._arrays, device):
            self._arrays = {m: array.to(device) for m, array in self._arrays.items()}
            self._labels = self._labels.to(device)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.split.labels)

    def take(self, index: Tensor) -> Batch:
        """Return the rows `index` (B,) as a batch."""
        inputs = {m: self._normalise(m, _rows(array, index)) for m, array in self._arrays.items()}
        return Batch(inputs, _rows(self._labels, index).to(self.device), index)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All rows in stored order; the last batch may be smaller."""
        return map(self.take, torch.split(torch.arange(len(self)), batch_size))

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """All rows in an order drawn from a CPU generator; the last batch may be smaller."""
        return map(self.take, torch.split(torch.randperm(len(self), generator=generator), batch_size))

    def _normalise(self, modality: str, rows: Tensor) -> Tensor:
        mean, scale = self._norms[modality]
        return rows.to(self.device, torch.float32).sub_(mean).mul_(scale)


def _rows(array: Tensor, index: Tensor) -> Tensor:
    return array.index_select(0, index.to(array.device))


def _fits(arrays: Mapping[str, Tensor], device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return sum(array.nbytes for array in arrays.values()) <= free // 2
