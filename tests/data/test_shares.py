"""Shares: what each of several processes takes of a batch, row for row what one process would see."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from drcli.data.batches import Batch, Batches, own_rows, parts, spans
from drcli.data.format import ModalityInfo
from drcli.data.input import Corruption, InputSettings
from drcli.data.plan import InputPlan
from drcli.data.prepared import Split
from drcli.world import ALONE, World

CPU = torch.device("cpu")
ROWS, BATCH = 23, 9


def batches(world: World = ALONE, accumulate: int = 1) -> Batches:
    """Pictures that are cropped, mirrored and noisy, of some of their frames, and sequences."""
    draw = torch.Generator().manual_seed(0)
    arrays = {
        "visual": torch.randint(0, 256, (ROWS, 5, 3, 12, 16), dtype=torch.uint8, generator=draw),
        "text": torch.randn(ROWS, 7, 4, generator=draw),
    }
    plans = {
        "visual": InputPlan(
            ModalityInfo((5, 3, 12, 16), "uint8", (127.5,) * 3, (50.0,) * 3, "frames"),
            InputSettings(frames=2, size=8, flip=True),
            Corruption(snr_db=0.0),
        ),
        "text": InputPlan(ModalityInfo((7, 4), "float32", (0.0,), (1.0,), "sequence")),
    }
    weight, lengths = torch.ones(ROWS, dtype=torch.float64), {"text": torch.arange(ROWS) % 7 + 1}
    split = Split("train", arrays, torch.arange(ROWS) % 4, torch.arange(ROWS), weight, lengths)
    return Batches(split, plans, CPU, world=world, accumulate=accumulate)


def epoch(made: Batches) -> list[Batch]:
    return list(made.shuffled(BATCH, torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)))


def assert_rows(share: Batch, whole: Batch, rows: torch.Tensor) -> None:
    """Every bit of a share is that of some rows of the whole."""
    assert torch.equal(share.index, whole.index[rows])
    assert torch.equal(share.labels, whole.labels[rows])
    for m, inputs in share.inputs.items():
        assert torch.equal(inputs, whole.inputs[m][rows]), m
    assert torch.equal(share.lengths["text"], whole.lengths["text"][rows])


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("size", [2, 3])
def test_shares_are_the_rows_of_one_process_bit_for_bit(size: int, accumulate: int) -> None:
    """Order, frames, crops, flips and noise; the whole batch's labels come with each share."""
    alone = epoch(batches())
    for rank in range(size):
        world = World(rank, size)
        for share, whole in zip(epoch(batches(world, accumulate)), alone, strict=True):
            assert_rows(share, whole, own_rows(len(whole.labels), accumulate, world))
            assert torch.equal(share.whole.index, whole.index)
            assert torch.equal(share.whole.labels, whole.labels)
            assert share.whole.inputs == {}


@pytest.mark.parametrize("size", [2, 3])
def test_parts_of_a_share_are_shares_of_the_parts(size: int) -> None:
    alone = epoch(batches())
    for rank in range(size):
        world = World(rank, size)
        for share, whole in zip(epoch(batches(world, 2)), alone, strict=True):
            for part, of_whole in zip(share.split(2, world), whole.split(2), strict=True):
                assert torch.equal(part.whole.index, of_whole.index)
                assert torch.equal(part.whole.labels, of_whole.labels)
                assert_rows(part, of_whole, torch.arange(len(of_whole.labels))[world.shard(len(of_whole.labels))])


def test_a_batch_of_one_process_is_the_whole() -> None:
    (batch, *_) = epoch(batches())
    assert batch.whole is batch
    assert all(part.whole is part for part in batch.split(3))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("rows", [5, 9, 64])
def test_every_row_is_some_processs_once(rows: int, count: int, size: int) -> None:
    owned = [own_rows(rows, count, World(rank, size)) for rank in range(size)]
    assert sorted(torch.cat(owned).tolist()) == list(range(rows))
    sizes = [len(own) for own in owned]
    assert max(sizes) - min(sizes) <= len(spans(rows, count))


@pytest.mark.parametrize("rows", [5, 9, 60])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_spans_are_the_parts_of_a_batch(rows: int, count: int) -> None:
    found = spans(rows, count)
    assert [span.stop - span.start for span in found] == [len(p) for p in parts(torch.arange(rows), -(-rows // count))]
    assert all(before.stop == after.start for before, after in pairwise(found))
    assert (found[0].start, found[-1].stop) == (0, rows)


def test_evaluation_is_dealt_in_turn() -> None:
    alone = list(batches().in_order(4))
    for rank in range(2):
        dealt = list(batches(World(rank, 2)).dealt(4))
        assert [batch.index.tolist() for batch in dealt] == [batch.index.tolist() for batch in alone[rank::2]]
        for ours, theirs in zip(dealt, alone[rank::2], strict=True):
            assert_rows(ours, theirs, torch.arange(len(theirs.labels)))
