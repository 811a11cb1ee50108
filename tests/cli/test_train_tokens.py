"""Text as token ids from the command line: prepared, trained with a re-learning event, evaluated in any batch size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_line import Drcli, Refused

import drcli as package
from drcli.engine.assemble import restore
from drcli.engine.evaluate import run_split

ROWS = {"train": 36, "val": 12, "test": 12}
LONGEST, VOCABULARY = 6, 20


def save_source(folder: Path) -> Path:
    """Pictures and texts whose words, and their number, depend on the class."""
    folder.mkdir()
    for number, (split, rows) in enumerate(ROWS.items()):
        draw = np.random.default_rng(number)
        labels = np.arange(rows) % 3
        lengths = draw.integers(1, LONGEST + 1, rows)
        words = draw.integers(1, 7, (rows, LONGEST)) + 6 * labels[:, None]
        words[np.arange(LONGEST) >= lengths[:, None]] = 0
        pictures = (80 * labels[:, None, None, None] + draw.integers(0, 50, (rows, 1, 8, 8))).astype(np.uint8)
        np.savez(folder / f"{split}.npz", labels=labels, picture=pictures, text=words, text_lengths=lengths)
    return folder


def recipe(root: Path, encoder: Mapping[str, Any]) -> dict[str, Any]:
    prepare = {"kinds": {"text": "tokens"}, "vocabularies": {"text": VOCABULARY}}
    return {
        "dataset": {"name": "arrays", "root": str(root), "prepare": prepare},
        "modalities": {"picture": {"backbone": "resnet_small", "width": 2}, "text": dict(encoder)},
        "method": "diagnose_relearn",
        "methods": {"diagnose_relearn": {"every": 1}},
        "training": {"epochs": 3, "batch_size": 9, "optimizer": {"name": "adam", "lr": 0.01}},
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


SETTINGS = ("dataset.prepare.kinds.text=tokens", f"dataset.prepare.vocabularies.text={VOCABULARY}")


def logits_of(run: Path, batch_size: int) -> torch.Tensor:
    """What a run's model gives for the test split, so many rows at a time."""
    assembly = restore(run / "checkpoint.pt", torch.device("cpu")).assembly
    training = assembly.recipe.training.model_copy(update={"eval_batch_size": batch_size})
    assembly.recipe = replace(assembly.recipe, training=training)
    return run_split(assembly, "test").logits


@pytest.mark.parametrize(
    "encoder",
    [
        {"backbone": "token_bag", "dim": 8},
        pytest.param(
            {"backbone": "token_transformer", "dim": 8, "heads": 2, "layers": 1, "feedforward": 8},
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda encoder: encoder["backbone"],
)
def test_texts_train_with_an_event_and_score_the_same_in_batches_of_any_size(
    encoder: dict[str, Any], tmp_path: Path, drcli: Drcli, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "prepared"
    drcli("prepare", "arrays", "--source", save_source(tmp_path / "in"), "--out", root, *SETTINGS)
    path = tmp_path / "texts.yaml"
    path.write_text(json.dumps(recipe(root, encoder)))
    drcli("train", path, "--out", tmp_path / "runs")
    run = tmp_path / "runs/texts/diagnose_relearn/seed0"
    assert "relearn" in (run / "events.jsonl").read_text()
    one, many = (logits_of(run, size) for size in (5, 12))
    torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-5)
    loaded = package.load(run)
    ids = torch.tensor([[3, 5, 0, 0, 0, 0], [3, 5, 9, 9, 9, 9]], dtype=torch.int32)
    lengths = torch.tensor([2, 2])
    pictures = torch.zeros(2, 1, 8, 8)
    inputs = {
        "picture": loaded.transforms["picture"](pictures),
        "text": loaded.transforms["text"](ids, lengths),
    }
    logits = loaded.predict(inputs, {"text": lengths}).logits
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0)
    monkeypatch.setattr(loaded.method, "predict", lambda _, batch: batch)  # stages run on a row that is not there
    assert loaded.predict({"picture": pictures}).inputs["text"].dtype == torch.int64  # type: ignore[attr-defined]
    message = refused("eval", run / "checkpoint.pt", "--noise", "text=10", code=2)
    assert "the samples of text are token ids, to which no noise can be added" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corrupt": {"text": {"snr_db": 0}}}, "corrupt.text: the samples are token ids"),
        ({"text": {"backbone": "token_bag", "flip": True}}, "modalities.text.flip: the stored arrays are not pictures"),
        ({"text": {"backbone": "mlp"}}, "backbone Mlp takes numbers, and the samples are token ids"),
        ({"picture": {"backbone": "token_bag"}}, "backbone TokenBag takes"),
    ],
)
def test_what_means_nothing_to_token_ids_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path, root: Path, drcli: Drcli, refused: Refused
) -> None:
    prepared = root / "prepared"
    if not prepared.exists():
        drcli("prepare", "arrays", "--source", save_source(root / "in"), "--out", prepared, *SETTINGS)
    found = recipe(prepared, {"backbone": "token_bag"})
    found["modalities"] |= {m: block for m, block in change.items() if m in found["modalities"]}
    found |= {key: value for key, value in change.items() if key == "corrupt"}
    (tmp_path / "texts.yaml").write_text(json.dumps(found))
    assert message in refused("train", tmp_path / "texts.yaml", "--out", tmp_path / "runs", code=2)
