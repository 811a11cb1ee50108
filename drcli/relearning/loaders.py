"""Passes over loaders that belong to somebody else: every row once, in stored order, and no generator moved."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from drcli.world import ALONE, World

KNOWN = (SequentialSampler, RandomSampler, DistributedSampler)
"""Samplers that give every row of a dataset, in one order or another."""


def sampler_of(loader: Any) -> Any:
    """Return what orders the rows of a loader; None if it is no DataLoader, or orders whole batches by itself."""
    if isinstance(loader, DataLoader) and type(loader.batch_sampler) is BatchSampler:
        return loader.batch_sampler.sampler
    return getattr(loader, "sampler", None)


def in_order(loader: Any, world: World = ALONE, *, no_single: bool = False) -> Iterable[Any]:
    """Return a loader of the same batches, but of every row once and in stored order.

    That is another DataLoader where the given one shuffles, leaves out the last rows or deals rows to several
    processes. A loader that orders its rows in a way of its own is returned as it is.

    Args:
        loader: of batches.
        world: the processes that share the rows; each gets equally many, in the order of the ranks, and the last ones
            some from the beginning again.
        no_single: leave out a last batch of one row.
    """
    if not _is_known(loader):
        return loader  # type: ignore[no-any-return]
    rows = share(len(loader.dataset), world)
    size = loader.batch_sampler.batch_size
    return DataLoader(
        loader.dataset,
        size,
        sampler=rows,
        drop_last=no_single and len(rows) % size == 1,
        **{name: getattr(loader, name) for name in ("num_workers", "collate_fn", "pin_memory", "timeout")},
        **{name: getattr(loader, name) for name in ("worker_init_fn", "multiprocessing_context", "prefetch_factor")},
    )


def share(rows: int, world: World) -> list[int]:
    """Return the row numbers that one of several processes passes over: equally many in each."""
    each = math.ceil(rows / world.size)
    return [row % rows for row in range(world.rank * each, (world.rank + 1) * each)]


def is_dealt(loader: Any) -> bool:
    """Whether a loader gives each of several processes rows of its own."""
    return isinstance(sampler_of(loader), DistributedSampler)


def whole(loader: Any) -> int | None:
    """Return how many rows there are over all processes in the loaders of `in_order`; None where it knows no order."""
    return len(loader.dataset) if _is_known(loader) else None


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
