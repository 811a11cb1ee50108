"""Pairs that are drawn anew: rows of a modality's pool in place of the stored ones, in training alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained, weights

from data_prep.writing.writer import DatasetWriter
from drcli.data.batches import Batch, Batches, own_rows, parts
from drcli.data.format import file_sha256, read_info
from drcli.data.pairs import draw_partners
from drcli.data.plan import InputPlan
from drcli.data.prepared import open_dataset
from drcli.data.rows import Residence
from drcli.errors import DataError, RecipeError
from drcli.recipe.load import load_recipe
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.world import ALONE, World

CPU = torch.device("cpu")
ROWS = 12
POOL = 40


def stream(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Rows 0 to 11 of sound and picture; a pool of pictures 100 to 139; classes go round."""
    folder = tmp_path / "paired"
    folder.mkdir()
    writer = DatasetWriter(folder, name="toy", classes=("a", "b", "c"))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[k % 3 for k in range(ROWS)], ids=[f"{split}-{k}" for k in range(ROWS)])
        for m in ("audio", "visual"):
            part.array(m, (1, 8, 8), "float16")[:] = np.arange(ROWS)[:, None, None, None]
        if split == "train":
            pool = part.pool("visual", [k % 3 for k in range(POOL)])
            pool[:] = 100 + np.arange(POOL)[:, None, None, None]
    settings = {"seed": 0, "rows": 60, "draws": 2}
    writer.finish(settings=settings, source={"fingerprint": "f", "limit": None})
    return folder


def made(root: Path, residence: Residence = "auto", *, pairs_anew: bool = True, world: World = ALONE) -> Batches:
    dataset = open_dataset(root)
    plans = {
        m: InputPlan(dataclasses.replace(info, mean=(0.0,), std=(1.0,))) for m, info in dataset.info.modalities.items()
    }
    return Batches(dataset.split("train"), plans, CPU, residence, pairs_anew=pairs_anew, world=world)


def shown(batches: list[Batch]) -> dict[str, dict[int, int]]:
    """The stored row that each modality showed, by the row of the split."""
    found: dict[str, dict[int, int]] = {"audio": {}, "visual": {}}
    for batch in batches:
        for m, rows in found.items():
            rows |= dict(zip(batch.index.tolist(), batch.inputs[m][:, 0, 0, 0].int().tolist(), strict=True))
    return found


def test_partners_are_of_the_class_and_used_once_while_they_last() -> None:
    labels, pool = torch.tensor([0, 1, 0, 2, 0, 1]), torch.tensor([2, 0, 1, 0, 1, 1, 0])
    drawn = draw_partners(labels, pool, stream(0))
    assert torch.equal(pool[drawn], labels)
    assert len(drawn.unique()) == len(labels)
    few = draw_partners(torch.zeros(5, dtype=torch.int64), torch.tensor([1, 0, 0]), stream(0))
    assert sorted(few.bincount(minlength=3).tolist()) == [0, 2, 3]


@pytest.mark.parametrize("residence", ["auto", "resident", "stream"])
def test_training_batches_show_pictures_of_the_pool_and_the_stored_sounds(root: Path, residence: Residence) -> None:
    batches = made(root, residence)
    epochs = []
    for number in (1, 2, 1):
        batches.pair_anew(stream(number))
        epochs.append(shown(list(batches.shuffled(5, stream(9)))))
    for found in epochs:
        assert found["audio"] == {row: row for row in range(ROWS)}
        assert all(picture >= 100 and (picture - 100) % 3 == row % 3 for row, picture in found["visual"].items())
        assert len(set(found["visual"].values())) == ROWS
    assert epochs[0] == epochs[2] != epochs[1]


def test_all_other_batches_show_the_stored_pairs(root: Path) -> None:
    batches = made(root)
    batches.pair_anew(stream(0))
    for found in (list(batches.in_order(5)), list(batches.dealt(5)), [batches.take(torch.arange(ROWS))]):
        assert shown(found) == {m: {row: row for row in range(ROWS)} for m in ("audio", "visual")}


def test_without_the_setting_nothing_is_drawn_and_the_pool_is_not_read(root: Path) -> None:
    batches, drawn = made(root, "resident", pairs_anew=False), stream(0)
    batches.pair_anew(drawn)
    assert torch.equal(drawn.get_state(), stream(0).get_state())
    assert shown(list(batches.shuffled(5, stream(1))))["visual"] == {row: row for row in range(ROWS)}
    assert batches.rows.nbytes == 2 * ROWS * 64 * 2


def test_several_processes_see_shares_of_the_same_pairs(root: Path) -> None:
    whole, shares = made(root), [made(root, world=World(rank, 2)) for rank in range(2)]
    for batches in (whole, *shares):
        batches.pair_anew(stream(3))
    for one, *pieces in zip(*(batches.shuffled(5, stream(4)) for batches in (whole, *shares)), strict=True):
        for rank, piece in enumerate(pieces):
            rows = own_rows(len(one.labels), 1, World(rank, 2))
            assert torch.equal(piece.inputs["visual"], one.inputs["visual"][rows])
    assert len(parts(torch.arange(ROWS), 5)) == 3


def test_a_pool_is_described_digested_and_read_back(root: Path) -> None:
    info = read_info(root)
    assert info.pools == {"visual": POOL}
    assert {path for path in info.sha256 if "pool" in path} == {
        "train/visual_pool.npy",
        "train/visual_pool_labels.npy",
    }
    dataset = open_dataset(root)
    assert dataset.split("train").pools["visual"].labels.tolist() == [k % 3 for k in range(POOL)]
    assert dataset.split("val").pools == {}


def test_a_dataset_without_a_pool_does_not_mention_pools(toy_root: Path) -> None:
    assert "pools" not in json.loads((toy_root / "dataset.json").read_text())
    assert read_info(toy_root).pools == {}


def described(root: Path, **changes: Any) -> None:
    """Change the description, digests brought up to date: damage that no checksum shows."""
    info = read_info(root)
    digests = {path: file_sha256(root / path) for path in info.sha256}
    (root / "dataset.json").write_text(dataclasses.replace(info, sha256=digests, **changes).to_json())


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1], "class c is absent from it"), ([0, 1, 2, 3], "it has labels of no class")],
)
def test_a_pool_whose_classes_do_not_fit_is_refused(root: Path, labels: list[int], message: str) -> None:
    np.save(root / "train" / "visual_pool_labels.npy", np.resize(labels, POOL))
    described(root)
    with pytest.raises(DataError, match=rf"visual_pool_labels\.npy: {message}; prepare the dataset again"):
        open_dataset(root)


def test_a_damaged_pool_is_refused(root: Path) -> None:
    np.save(root / "train" / "visual_pool.npy", np.zeros((POOL, 1, 8, 7), np.float16))
    with pytest.raises(DataError, match=r"train/visual_pool\.npy was truncated or altered"):
        open_dataset(root)
    described(root)
    with pytest.raises(DataError, match=r"visual_pool\.npy: holds float16 \(40, 1, 8, 7\)"):
        open_dataset(root)


@pytest.mark.parametrize("pools", [{"text": 3}, {"visual": 0}, ["visual"]])
def test_a_wrong_description_of_pools_is_refused(root: Path, pools: Any) -> None:
    raw = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**raw, "pools": pools}))
    with pytest.raises(DataError, match="pools"):
        read_info(root)


@pytest.fixture
def recipe(root: Path, toy_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Trains on the dataset with a pool."""

    def make(**training: Any) -> Recipe:
        block = {"epochs": 2, "batch_size": 5, "optimizer": {"name": "sgd", "lr": 0.05}, **training}
        return toy_recipe(dataset={"name": "toy", "root": str(root)}, method="joint", training=block)

    return make


def test_a_run_with_new_pairs_goes_on_bit_for_bit_where_it_was_stopped(
    recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    wanted = recipe(pairs="each_epoch")
    whole = trained(wanted, tmp_path / "whole")
    with pytest.raises(StoppedError):
        make_trainer(wanted, tmp_path / "stopped", listener=StopAfter(1)).train()
    again = make_trainer(wanted, tmp_path / "stopped")
    again.resume()
    again.train()
    assert bits(weights(again)) == bits(weights(whole))
    assert log(tmp_path / "stopped" / "metrics.jsonl") == log(tmp_path / "whole" / "metrics.jsonl")
    stored = trained(recipe(), tmp_path / "stored")
    assert bits(weights(stored)) != bits(weights(whole))


def test_a_recipe_that_prepares_no_pool_is_refused_before_any_data_is_read() -> None:
    with pytest.raises(RecipeError, match=r"training.pairs = each_epoch +needs rows to pair"):
        load_recipe(find_recipe("avmnist"), ["training.pairs=each_epoch"])
    assert load_recipe(find_recipe("avmnist_full")).training.pairs == "each_epoch"


def test_new_pairs_of_a_dataset_that_has_none_to_make_are_refused(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    training = {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.05}, "pairs": "each_epoch"}
    with pytest.raises(RecipeError, match=r"each_epoch: dataset toy in .* keeps no rows beyond its pairs; set it to"):
        make_trainer(toy_recipe(training=training), tmp_path)
