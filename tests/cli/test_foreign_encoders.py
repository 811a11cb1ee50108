"""Models of timm and transformers from the command line: trained with an event, resumed, exported, loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support.command_line import ROOT, Drcli
from support.models_of_others import PREPARE, TIMM_RESNET, TIMM_VIT, config_folder, save_samples
from support.training import CPU, StopAfter, StoppedError, bits, log, planned

import drcli as package
from drcli import checkpoint
from drcli.data.prepared import open_dataset
from drcli.engine.assemble import restore
from drcli.engine.evaluate import run_split
from drcli.engine.run import execute
from drcli.models.weight_files import read
from drcli.recipe.load import load_recipe

pytestmark = pytest.mark.slow

BERT, VIT, AST, WAV2VEC2 = (
    {"backbone": "transformers", "model": name, "pretrained": False} for name in ("bert", "vit", "ast", "wav2vec2")
)
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "timm vit": {"picture": TIMM_VIT, "text": {"backbone": "token_bag", "dim": 8}},
    "timm resnet": {"picture": {**TIMM_RESNET, "trainable": "last:2"}, "text": {"backbone": "token_bag", "dim": 8}},
    "bert and vit": {"text": {**BERT, "pooling": "cls"}, "picture": VIT},
    "ast": {"sound": AST, "text": {"backbone": "token_bag", "dim": 8}},
    "wav2vec2": {"wave": WAV2VEC2, "picture": {"backbone": "resnet_small", "width": 2}},
    "module": {
        "wave": {"backbone": "module", "path": "support.models_of_others:Mean", "options": {"width": 5}},
        "text": {"backbone": "module", "path": "support.models_of_others:Valid"},
    },
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from data_prep.arrays import Arrays

    folder = tmp_path_factory.mktemp("samples")
    settings = Arrays.Settings.model_validate(PREPARE)
    Arrays(settings).run(source=save_samples(folder / "in"), out=folder / "out", limit=None)
    return folder / "out"


def recipe(folder: Path, prepared: Path, encoders: dict[str, dict[str, Any]]) -> Path:
    """Write a recipe, and the configurations that it names."""
    named = {m: dict(block) for m, block in encoders.items()}
    for block in named.values():
        if block["backbone"] == "transformers":
            block["model"] = config_folder(folder / block["model"], block["model"])
    path = folder / "others.yaml"
    blocks = {
        "dataset": {"name": "arrays", "root": str(prepared), "prepare": PREPARE},
        "modalities": named,
        "method": "diagnose_relearn",
        "methods": {"diagnose_relearn": {"every": 1}},
        "training": {"epochs": 3, "batch_size": 12, "optimizer": {"name": "adamw", "lr": 0.003}},
    }
    path.write_text(json.dumps(blocks))
    return path


def result(run: Path) -> dict[str, Any]:
    states = {name: checkpoint.load(run / name) for name in ("checkpoint.pt", "last.pt")}
    kept = {name: {key: value for key, value in state.items() if key != "seconds"} for name, state in states.items()}
    return {**bits(kept), "metrics": log(run / "metrics.jsonl"), "events": log(run / "events.jsonl")}


@pytest.mark.parametrize("case", CASES)
def test_trains_with_an_event_resumes_bit_by_bit_and_comes_back_without_its_folder(
    case: str, prepared: Path, tmp_path: Path, drcli: Drcli, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(tmp_path, prepared, CASES[case])
    drcli("train", path, "--out", tmp_path / "runs", "--device", "cpu")
    run = tmp_path / "runs/others/diagnose_relearn/seed0"
    assert [line["kind"] for line in log(run / "events.jsonl")] == ["relearn"]

    again = tmp_path / "again/others/diagnose_relearn/seed0"
    with pytest.raises(StoppedError):
        execute(planned(load_recipe(path), again), open_dataset(prepared), device=CPU, listener=StopAfter(1))
    drcli("train", path, "--out", tmp_path / "again", "--device", "cpu")
    assert result(again) == result(run)

    shown = drcli("show", path).stdout
    modality = next(iter(CASES[case]))
    assert f"encoder {CASES[case][modality]['backbone']}" in shown
    out = tmp_path / "encoder.safetensors"
    drcli("export", run, "--encoder", modality, "--out", out)
    for name in ("bert", "vit", "ast", "wav2vec2"):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(tmp_path / f"{name} was here")
    loaded = package.load(run)
    exported = read(str(out))
    encoder = loaded.encoders[modality]
    assert bits(dict(exported.tensors)) == bits(encoder.state_dict())
    encoder.load_pretrained(exported.tensors)

    outputs = run_split(restore(run / "checkpoint.pt", CPU).assembly, "test")
    split = open_dataset(prepared).split("test")
    lengths = {m: split.lengths[m] for m in CASES[case] if m in split.lengths}
    inputs = {m: loaded.transforms[m](split.tensor(m), lengths.get(m)) for m in CASES[case]}
    torch.testing.assert_close(loaded.predict(inputs, lengths).logits, outputs.logits, rtol=1e-4, atol=1e-5)


def test_frozen_weights_are_the_bits_that_they_began_with(prepared: Path, tmp_path: Path, drcli: Drcli) -> None:
    encoders = {"text": {**BERT, "trainable": "last:1"}, "picture": {**VIT, "trainable": "none"}}
    path = recipe(tmp_path, prepared, encoders)
    drcli("train", path, "--out", tmp_path / "runs", "--device", "cpu")
    run = tmp_path / "runs/others/diagnose_relearn/seed0"
    after = checkpoint.load(run / "last.pt")["model"]
    initial = checkpoint.load(run / "last.pt")["method"]
    shown = drcli("show", path).stdout
    assert "frozen" in shown
    assert any("encoders.text.model.encoder.layer.1." in name for name in after)
    moved = {name for m in ("text", "picture") for name in moved_of(initial, after, m)}
    assert moved
    assert all(".encoder.layer.1." in name for name in moved)


def moved_of(initial: dict[str, Any], after: dict[str, torch.Tensor], modality: str) -> list[str]:
    """Names of the tensors of an encoder that differ from those that the method kept of its beginning."""
    start = next(value for value in walk(initial) if isinstance(value, dict) and modality in value)[modality]
    kept = {name.removeprefix(f"encoders.{modality}."): tensor for name, tensor in after.items()}
    return [f"{modality}.{n}" for n, t in start.items() if n in kept and not torch.equal(t, kept[n])]


def walk(value: Any) -> list[Any]:
    inner = [found for item in value.values() for found in walk(item)] if isinstance(value, dict) else []
    return [value, *inner]


def test_the_example_of_pictures_with_texts_trains_as_it_stands(prepared: Path, tmp_path: Path, drcli: Drcli) -> None:
    """On made-up data, whose pictures and texts are called otherwise, and shorter."""
    example = yaml.safe_load((ROOT / "docs/examples/image_and_text.yaml").read_text(encoding="utf-8"))
    encoders = example["modalities"]
    changed = {
        "dataset": {"name": "arrays", "root": str(prepared), "prepare": PREPARE},
        "modalities": {"picture": encoders["image"], "text": encoders["text"]},
        "methods": {"joint": {}, "diagnose_relearn": {"every": 1}},
        "training": {**example["training"], "epochs": 3, "batch_size": 12},
    }
    (tmp_path / "example.yaml").write_text(json.dumps({**example, **changed}))
    drcli("train", tmp_path / "example.yaml", "--out", tmp_path / "runs", "--device", "cpu")
    run = tmp_path / "runs/image_and_text/diagnose_relearn/seed0"
    assert [line["kind"] for line in log(run / "events.jsonl")] == ["relearn"]
