"""Token ids as a kind of input: what is written is what a batch gives, and ids out of range are refused everywhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.arrays_tree import SIZES, prepare, samples, write

from data_prep.writing.writer import DatasetWriter
from drcli.data.batches import Batches
from drcli.data.format import DatasetInfo, file_sha256, read_info
from drcli.data.input import Corruption, InputSettings
from drcli.data.plan import InputPlan, Transform
from drcli.data.prepared import open_dataset
from drcli.errors import DataError, UsageError

VOCABULARY, PAD, LONGEST = 12, 3, 5
TEXT: dict[str, Any] = {"kinds": {"text": "tokens"}, "vocabularies": {"text": VOCABULARY}, "pads": {"text": PAD}}


def texts(split: str) -> dict[str, Any]:
    """Ids of 0 ... 11 with 1 to 5 valid ones a row, and what is no id at all in the padding."""
    rows, generator = SIZES[split], np.random.default_rng(SIZES[split])
    lengths = generator.integers(1, LONGEST + 1, rows)
    ids = generator.integers(0, VOCABULARY, (rows, LONGEST))
    ids[np.arange(LONGEST) >= lengths[:, None]] = -100
    return {"audio": None, "visual": samples(split)["visual"], "text": ids, "text_lengths": lengths}


def source(folder: Path, **train: Any) -> Path:
    changed: dict[str, Any] = {split: texts(split) for split in SIZES}
    return write(folder, **{**changed, "train": {**changed["train"], **train}})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    prepare(source(folder / "in"), folder / "out", **TEXT)
    return folder / "out"


def test_ids_lengths_and_vocabulary_are_stored_and_padding_is_the_padding_id(root: Path) -> None:
    found = read_info(root)
    spec = found.modalities["text"]
    assert (found.format_version, spec.kind, spec.shape, spec.dtype) == (4, "tokens", (LONGEST,), "int32")
    assert (spec.vocabulary, spec.pad, spec.mean, spec.std) == (VOCABULARY, PAD, (0.0,), (1.0,))
    assert "vocabulary" not in json.loads((root / "dataset.json").read_text())["modalities"]["visual"]
    given = texts("val")
    padding = np.arange(LONGEST) >= given["text_lengths"][:, None]
    np.testing.assert_array_equal(np.load(root / "val/text.npy"), np.where(padding, PAD, given["text"]))
    np.testing.assert_array_equal(np.load(root / "val/text_lengths.npy"), given["text_lengths"])


def test_a_batch_gives_ids_and_lengths_as_whole_numbers_in_training_too(root: Path) -> None:
    split = open_dataset(root).split("train")
    specs = open_dataset(root).info.modalities
    plans = {"text": InputPlan(specs["text"]), "visual": InputPlan(specs["visual"])}
    batches = Batches(split, plans, torch.device("cpu"))
    given, seen = texts("train"), 0
    for batch in batches.shuffled(8, torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)):
        ids, lengths = batch.inputs["text"], batch.lengths["text"]
        assert (ids.dtype, batch.inputs["visual"].dtype) == (torch.int64, torch.float32)
        np.testing.assert_array_equal(lengths, given["text_lengths"][batch.index])
        padding = np.arange(LONGEST) >= lengths.numpy()[:, None]
        np.testing.assert_array_equal(ids, np.where(padding, PAD, given["text"][batch.index]))
        seen += len(ids)
    assert seen == SIZES["train"]


def test_a_transform_makes_the_same_ids_of_a_text_that_is_padded_with_anything(root: Path) -> None:
    transform = Transform(InputPlan(read_info(root).modalities["text"]))
    found = transform(torch.tensor([[7, 8, 9, 9, 9]], dtype=torch.int32), torch.tensor([2]))
    assert found.tolist() == [[7, 8, PAD, PAD, PAD]]
    assert found.dtype == torch.int64


def test_two_preparations_are_equal_byte_for_byte(root: Path, tmp_path: Path) -> None:
    again = prepare(source(tmp_path / "in"), tmp_path / "out", **TEXT)
    assert again.sha256 == read_info(root).sha256


def test_the_vocabulary_is_one_more_than_the_largest_id_of_all_files_unless_it_is_said(tmp_path: Path) -> None:
    made = source(tmp_path / "in")
    assert prepare(made, tmp_path / "out", kinds={"text": "tokens"}).modalities["text"].vocabulary == VOCABULARY


def test_rows_without_a_text_have_no_valid_token(tmp_path: Path) -> None:
    mask = {split: np.arange(rows) % 3 > 0 for split, rows in SIZES.items()}
    changed: dict[str, Any] = {split: {**texts(split), "text_present": mask[split]} for split in SIZES}
    info = prepare(write(tmp_path / "in", **changed), tmp_path / "out", **TEXT)
    assert (info.modalities["text"].masked, info.format_version) == (True, 4)
    lengths = np.load(tmp_path / "out/val/text_lengths.npy")
    np.testing.assert_array_equal(lengths, texts("val")["text_lengths"] * mask["val"])
    open_dataset(tmp_path / "out")


@pytest.mark.parametrize(
    ("train", "settings", "message"),
    [
        ({}, {"vocabularies": {"text": 5}}, "'text' has token ids from . to .* allowed are 0 to 4"),
        ({}, {"pads": {"text": 12}}, "pad is 12; it must be a token id from 0 to 11"),
        ({}, {"pads": {"visual": 0}}, "dataset.prepare.pads names 'visual', which is not of the kind tokens"),
        ({"text_lengths": np.full(30, 6)}, {}, "'text_lengths' runs from 6 to 6; 'text' has 5 steps"),
        ({}, {"kinds": {}, "vocabularies": {}, "pads": {}}, "'text_lengths' is not used.*kinds.text=tokens"),
    ],
)
def test_what_is_no_text_is_refused(
    tmp_path: Path, train: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises((DataError, UsageError), match=message):
        prepare(source(tmp_path / "in", **train), tmp_path / "out", **{**TEXT, **settings})


def test_numbers_with_a_fraction_are_no_token_ids(tmp_path: Path) -> None:
    changed: dict[str, Any] = {split: {**texts(split), "text": texts(split)["text"] / 2} for split in SIZES}
    with pytest.raises(DataError, match="'text' has the type float64; token ids are integers: convert it"):
        prepare(write(tmp_path / "in", **changed), tmp_path / "out", **TEXT)


def test_a_writer_publishes_no_id_out_of_range(tmp_path: Path) -> None:
    writer = DatasetWriter(tmp_path, name="toy", classes=("a",))
    for split in ("train", "val", "test"):
        part = writer.split(split, labels=[0, 0], ids=["x", "y"])
        part.tokens("text", 2, vocabulary=4)[:] = [[0, 1], [1, 4 if split == "val" else 3]]
        part.lengths("text", [2, 2])
    with pytest.raises(DataError, match="text has token ids from 1 to 4 in split val, row 1; allowed are 0 to 3"):
        writer.finish(settings={}, source={"fingerprint": "f", "limit": None})


def rewrite(root: Path, info: DatasetInfo, **text: Any) -> None:
    """Change the description of the text, digests brought up to date."""
    spec = dataclasses.replace(info.modalities["text"], **text)
    digests = {path: file_sha256(root / path) for path in info.sha256}
    changed = dataclasses.replace(info, sha256=digests, modalities={**info.modalities, "text": spec})
    (root / "dataset.json").write_text(changed.to_json())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"vocabulary": 11}, "train/text.npy: token ids run from 0 to 11, allowed are 0 to 10; prepare .* --fresh"),
        ({"dtype": "int64"}, "modalities.text.dtype is 'int64'; it must be int32 for the kind tokens"),
        ({"pad": -1}, "modalities.text.pad is -1; it must be a token id from 0 to 11"),
        ({"mean": (0.0, 0.0), "std": (1.0, 1.0)}, "modalities.text.mean has 2 numbers; it must have 1"),
    ],
)
def test_a_description_that_the_ids_do_not_fit_is_refused(tmp_path: Path, text: dict[str, Any], message: str) -> None:
    info = prepare(source(tmp_path / "in"), tmp_path / "out", **TEXT)
    rewrite(tmp_path / "out", info, **text)
    with pytest.raises(DataError, match=message):
        open_dataset(tmp_path / "out")


def test_settings_of_pictures_and_noise_mean_nothing_to_ids(root: Path) -> None:
    """No flip, no noise, no statistic changes an id, whatever a plan says; recipes with such settings are refused."""
    spec = dataclasses.replace(read_info(root).modalities["text"], mean=(5.0,), std=(2.0,))
    plan = InputPlan(spec, InputSettings(flip=True), Corruption(snr_db=0.0))
    batches = Batches(open_dataset(root).split("val"), {"text": plan}, torch.device("cpu"))
    (batch,) = batches.in_order(64)
    np.testing.assert_array_equal(batch.inputs["text"], np.load(root / "val/text.npy"))
