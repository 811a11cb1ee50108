"""Passes over loaders that belong to somebody else: every row once, in stored order, and no generator moved."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, Subset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from drcli.world import ALONE, World

KNOWN = (SequentialSampler, RandomSampler, DistributedSampler)
"""Samplers that give every row of a dataset, in one order or another."""

LABELS = ("targets", "labels")
"""What a dataset calls the classes of its rows: torchvision's name, and the other common one."""


def sampler_of(loader: Any) -> Any:
    """Return what orders the rows of a loader; None if it is no DataLoader, or orders whole batches by itself."""
    if isinstance(loader, DataLoader) and type(loader.batch_sampler) is BatchSampler:
        return loader.batch_sampler.sampler
    return getattr(loader, "sampler", None)


def in_order(
    loader: Any, world: World = ALONE, *, rows: Tensor | None = None, no_single: bool = False
) -> Iterable[Any]:
    """Return a loader of the same batches, but of every row once and in stored order.

    That is another DataLoader where the given one shuffles, leaves out the last rows or deals rows to several
    processes. A loader that orders its rows in a way of its own is returned as it is.

    Args:
        loader: of batches.
        world: the processes that share the rows; each gets equally many, in the order of the ranks, and the last ones
            some from the beginning again.
        rows: numbers of the rows that are wanted, (N,); None: all. Only for a loader whose labels `labels_of` knows.
        no_single: leave out a last batch of one row.
    """
    if not _is_known(loader):
        return loader  # type: ignore[no-any-return]
    numbers = range(len(loader.dataset)) if rows is None else rows.tolist()
    own = [numbers[position] for position in share(len(numbers), world)]
    size = loader.batch_sampler.batch_size
    return DataLoader(
        loader.dataset,
        size,
        sampler=own,
        drop_last=no_single and len(own) % size == 1,
        **{name: getattr(loader, name) for name in ("num_workers", "collate_fn", "pin_memory", "timeout")},
        **{name: getattr(loader, name) for name in ("worker_init_fn", "multiprocessing_context", "prefetch_factor")},
    )


def share(rows: int, world: World) -> list[int]:
    """Return which of some rows one of several processes passes over: equally many in each."""
    each = math.ceil(rows / world.size)
    return [row % rows for row in range(world.rank * each, (world.rank + 1) * each)]


def is_dealt(loader: Any) -> bool:
    """Whether a loader gives each of several processes rows of its own."""
    return isinstance(sampler_of(loader), DistributedSampler)


def whole(loader: Any) -> int | None:
    """Return how many rows there are over all processes in the loaders of `in_order`; None where it knows no order."""
    return len(loader.dataset) if _is_known(loader) else None


def labels_of(loader: Any) -> Tensor | None:
    """Return the class of every row of a loader, (N,), where its dataset tells without being read; else None.

    A TensorDataset does, whose last tensor they are, a dataset with `targets` or `labels`, and a Subset of either.
    """
    return _classes(loader.dataset) if _is_known(loader) else None


def _classes(dataset: Any) -> Tensor | None:
    if isinstance(dataset, Subset):
        found = _classes(dataset.dataset)
        return None if found is None else found[torch.as_tensor(dataset.indices, dtype=torch.int64)]
    if isinstance(dataset, TensorDataset):
        return _as_classes(dataset.tensors[-1], len(dataset))
    values = next((getattr(dataset, name) for name in LABELS if hasattr(dataset, name)), None)
    return _as_classes(values, len(dataset))


def _as_classes(values: Any, rows: int) -> Tensor | None:
    """Return values as one whole number per row on the CPU, or None if they are anything else."""
    if not isinstance(values, Tensor | np.ndarray | list | tuple) or len(values) != rows:
        return None
    try:
        found = torch.as_tensor(values).cpu()
    except (TypeError, ValueError, RuntimeError):
        return None
    is_whole = not found.dtype.is_floating_point and not found.dtype.is_complex and found.dtype != torch.bool
    return found if found.ndim == 1 and is_whole else None


def _is_known(loader: Any) -> bool:
    is_plain = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
    return is_plain and type(loader.batch_sampler) is BatchSampler and type(loader.batch_sampler.sampler) in KNOWN


@contextmanager
def generators_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put the global generators of Python, NumPy and torch back to where they were.

    Args:
        modules: the generators of their devices are kept, beside that of the CPU.
    """
    devices = {parameter.device for module in modules for parameter in module.parameters()}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - datasets draw from it
    try:
        with torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
