"""Batches: which rows, in which order, and their normalisation."""

from __future__ import annotations

import pytest
import torch

from drcli.data.batches import Batches, InputPlan
from drcli.data.prepared import PreparedDataset

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
    before = batches.split.arrays["audio"].clone()
    first, second = (batches.take(torch.arange(5)).inputs["audio"] for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(batches.split.arrays["audio"], before)


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
