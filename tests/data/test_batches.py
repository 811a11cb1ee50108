"""Batches: which rows, in which order, and their normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from drcli.data.batches import Batch, Batches
from drcli.data.input import Corruption
from drcli.data.plan import InputPlan
from drcli.data.prepared import PreparedDataset
from drcli.data.rows import Residence, ahead

CPU = torch.device("cpu")


@pytest.fixture
def batches(toy_dataset: PreparedDataset) -> Batches:
    plans = {m: InputPlan(toy_dataset.info.modalities[m]) for m in ("visual", "audio")}
    return Batches(toy_dataset.split("train"), plans, CPU)


def test_inputs_are_normalised_by_the_train_split(batches: Batches, toy_dataset: PreparedDataset) -> None:
    stored = toy_dataset.split("train")
    batch = batches.take(torch.tensor([3, 0, 3]))
    assert list(batch.inputs) == ["visual", "audio"]
    for m, rows in batch.inputs.items():
        info = toy_dataset.info.modalities[m]
        expected = (stored.arrays[m][[3, 0, 3]].double() - info.mean[0]) / info.std[0]
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(batch.labels, stored.labels[[3, 0, 3]])
    assert torch.equal(batch.index, torch.tensor([3, 0, 3]))
    everything = next(batches.in_order(len(batches))).inputs["audio"]
    assert float(everything.mean()) == pytest.approx(0.0, abs=1e-3)
    assert float(everything.std()) == pytest.approx(1.0, abs=1e-3)


def test_taking_a_batch_leaves_the_stored_rows_alone(batches: Batches, toy_dataset: PreparedDataset) -> None:
    before = batches.split.tensor("audio").clone()
    first, second = (batches.take(torch.arange(5)).inputs["audio"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(batches.split.tensor("audio"), before)


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(16, [16, 16, 16, 12]), (60, [60]), (100, [60]), (59, [60]), (29, [29, 29, 2]), (20, [20, 20, 20])],
)
def test_batches_cover_every_row_once_and_none_is_a_single_row(
    batch_size: int, sizes: list[int], batches: Batches
) -> None:
    """60 rows; a row that would be left alone joins the batch before."""
    taken = [batch.index for batch in batches.in_order(batch_size)]
    assert [len(index) for index in taken] == sizes
    assert torch.equal(torch.cat(taken), torch.arange(60))
    shuffled = [batch.index for batch in batches.shuffled(batch_size, torch.Generator().manual_seed(1))]
    assert [len(index) for index in shuffled] == sizes
    assert sorted(torch.cat(shuffled).tolist()) == list(range(60))


def test_batches_of_one_row_stay_batches_of_one_row(batches: Batches) -> None:
    assert [len(batch.index) for batch in batches.in_order(1)] == [1] * 60


def test_the_order_is_the_generators(batches: Batches) -> None:
    def order(seed: int) -> list[int]:
        drawn = batches.shuffled(16, torch.Generator().manual_seed(seed))
        return [row for batch in drawn for row in batch.index.tolist()]

    state = torch.get_rng_state()
    assert order(1) == order(1) != order(2)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("residence", "said"),
    [("auto", "in memory maps"), ("resident", "resident on cpu"), ("stream", "streamed from memory maps")],
)
def test_where_the_arrays_are_is_said_with_their_size(
    residence: Residence, said: str, toy_dataset: PreparedDataset
) -> None:
    split = toy_dataset.split("train")
    plans = {"audio": InputPlan(toy_dataset.info.modalities["audio"])}
    rows = Batches(split, plans, CPU, residence).rows
    assert rows.describe() == f"{split.arrays['audio'].nbytes / 1e6:.1f} MB {said}"


@pytest.mark.parametrize("residence", ["resident", "stream"])
def test_where_the_arrays_are_changes_no_bit(residence: Residence, toy_dataset: PreparedDataset) -> None:
    plans = {m: InputPlan(info) for m, info in toy_dataset.info.modalities.items()}
    plans["audio"] = InputPlan(toy_dataset.info.modalities["audio"], corruption=Corruption(snr_db=0.0))
    mapped, other = (Batches(toy_dataset.split("train"), plans, CPU, where) for where in ("auto", residence))
    assert (mapped.rows.resident, mapped.rows.prefetches) == (False, False)
    assert (other.rows.resident, other.rows.prefetches) == (residence == "resident", residence == "stream")
    for made in ("shuffled", "in_order"):
        for ours, theirs in zip(*(passes(batches, made) for batches in (mapped, other)), strict=True):
            assert ours.index.tolist() == theirs.index.tolist()
            assert torch.equal(ours.labels, theirs.labels)
            assert all(torch.equal(ours.inputs[m], theirs.inputs[m]) for m in plans)


def passes(batches: Batches, made: str) -> list[Batch]:
    if made == "in_order":
        return list(batches.in_order(7))
    return list(batches.shuffled(7, torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)))


def test_work_ahead_keeps_the_order_and_passes_errors_on() -> None:
    drawn: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(6):
            drawn.append(number)
            yield number

    def work(number: int) -> float:
        return 1 / (4 - number)

    results = ahead(jobs(), work)
    assert next(results) == 0.25
    assert drawn == [0, 1, 2]  # two more are being read, no more
    with pytest.raises(ZeroDivisionError):
        list(results)


def test_a_batch_is_split_into_parts_of_two_rows_or_more(batches: Batches) -> None:
    whole = batches.take(torch.arange(13))
    found = whole.split(4)
    assert [len(part.labels) for part in found] == [4, 4, 5]
    assert torch.equal(torch.cat([part.inputs["audio"] for part in found]), whole.inputs["audio"])
    assert torch.cat([part.index for part in found]).tolist() == list(range(13))
    assert whole.split(1) == (whole,)
