"""The processes that train one run together, and what they exchange; a process alone exchanges nothing.

Every process draws the same order and the same random choices for a whole batch and takes a shard of its
rows. What is summed here (losses, statistics, gradients) is the same bits in every process afterwards, so
that all of them take the same step from the same weights. Nothing wraps the model: a method may run it
several times per step and change the gradients between backward and step. The price is that gradients are
exchanged after the backward pass and not while it runs, as `DistributedDataParallel` would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from drcli.errors import DrcliError

T = TypeVar("T")

BUCKET = 25 * 2**20
"""Bytes of gradients that are exchanged as one tensor, unless a single one is larger."""


@dataclass(frozen=True)
class World:
    """One of the processes that train a run.

    Unless it is alone, torch's default process group has as many. `on_main`, `all_reduce`, `all_gather`,
    `sum_gradients` and `broadcast` are collective then: all processes call them, in the same order, with tensors on
    their own devices.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    @property
    def stream(self) -> tuple[str | int, ...]:
        """What to add to the names of a random stream that must differ between processes, such as dropout's."""
        return () if self.size == 1 else ("rank", self.rank)

    def shard(self, rows: int) -> slice:
        """Return the rows of `rows` that are this process's: contiguous, in the order of the ranks, nearly equal."""
        least, more = divmod(rows, self.size)
        start = self.rank * least + min(self.rank, more)
        return slice(start, start + least + (self.rank < more))

    def peers(self) -> Iterator[World]:
        """Yield all processes in the order of their ranks, this one among them."""
        return (World(rank, self.size) for rank in range(self.size))

    def on_main(self, work: Callable[[], T]) -> T:
        """Do something in the main process only, and return what it gives (plain data) in every process.

        Raises:
            DrcliError: what `work` raised, in every process.
        """
        if self.size == 1:
            return work()
        outcome: list[Any] = [None, None]
        if self.is_main:
            try:
                outcome = [work(), None]
            except DrcliError as error:
                outcome = [None, error]
        distributed.broadcast_object_list(outcome, src=0)
        value, raised = outcome
        if raised is not None:
            raise raised
        return value  # type: ignore[no-any-return]

    def all_reduce(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the sums over the processes of numbers {name: ()} that have no gradient."""
        if self.size == 1 or not values:
            return dict(values)
        total = torch.stack(list(values.values()))
        distributed.all_reduce(total)
        return dict(zip(values, total.unbind(), strict=True))

    def all_gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows of all processes, (sum of counts, K), in the order of the ranks.

        Args:
            rows: (n, K), this process's.
            counts: n of every process.
        """
        if self.size == 1:
            return rows
        padded = rows.new_zeros(max(counts), rows.shape[1])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(found, padded)
        return torch.cat([piece[:count] for piece, count in zip(found, counts, strict=True)])

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over the processes; the same parameters have one in each."""
        if self.size == 1:
            return
        pending = []
        for bucket in buckets([parameter.grad for parameter in parameters if parameter.grad is not None]):
            flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
            pending.append((bucket, flat, distributed.all_reduce(flat, async_op=True)))
        for bucket, flat, exchange in pending:
            exchange.wait()
            _unflatten(flat, bucket)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors, in place, the values that they have in the main process."""
        if self.size == 1:
            return
        for tensor in tensors:
            value = tensor.detach().contiguous()
            distributed.broadcast(value, src=0)
            tensor.detach().copy_(value)


ALONE = World()


def buckets(tensors: Iterable[Tensor], limit: int = BUCKET) -> Iterator[list[Tensor]]:
    """Yield tensors in their order, in lists of at most `limit` bytes, or of one larger tensor."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and size + tensor.nbytes > limit:
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def _unflatten(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Copy the pieces of a flat tensor back, whatever the memory layout of each tensor is."""
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)])
