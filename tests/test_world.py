"""The processes of a run: one alone exchanges nothing; what several exchange is in engine/test_distributed.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drcli.errors import RunError
from drcli.world import ALONE, World, buckets


def test_shares_are_contiguous_and_nearly_equal() -> None:
    """7 rows of 3 processes: 3, 2 and 2."""
    assert [World(rank, 3).shard(7) for rank in range(3)] == [slice(0, 3), slice(3, 5), slice(5, 7)]
    assert ALONE.shard(7) == slice(0, 7)


def test_a_single_process_gets_its_own_values_back() -> None:
    """No process group is there, which any exchange would need."""
    value, rows = torch.tensor(1.5), torch.ones(2, 3)
    assert ALONE.all_reduce({"a": value})["a"] is value
    assert ALONE.all_gather(rows, [2]) is rows
    layer = nn.Linear(1, 1)
    layer.weight.grad = gradient = torch.ones(1, 1)
    ALONE.sum_gradients(layer.parameters())
    ALONE.broadcast([rows])
    assert layer.weight.grad is gradient
    assert (ALONE.is_main, ALONE.stream, list(ALONE.peers())) == (True, (), [ALONE])
    assert ALONE.on_main(lambda: rows) is rows


def test_alone_errors_pass() -> None:
    def fail() -> None:
        raise RunError("disk full")

    with pytest.raises(RunError, match="disk full"):
        ALONE.on_main(fail)


def test_processes_have_streams_of_their_own() -> None:
    assert [World(rank, 2).stream for rank in range(2)] == [("rank", 0), ("rank", 1)]


def test_buckets_keep_the_order_and_the_limit() -> None:
    """Of 4, 8, 4, 40 and 4 bytes, 12 at most: the third would make 16, the fourth is too large for any."""
    tensors = [torch.zeros(n) for n in (1, 2, 1, 10, 1)]
    found = list(buckets(tensors, limit=12))
    assert [[tensor.numel() for tensor in bucket] for bucket in found] == [[1, 2], [1], [10], [1]]
    assert [id(tensor) for bucket in found for tensor in bucket] == [id(tensor) for tensor in tensors]
    assert list(buckets([])) == []
