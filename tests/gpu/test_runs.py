"""A run on a GPU: its bits twice and resumed, where its arrays are, its optimisers, its precision, its memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from support.toy_recipes import encoded
from support.training import StopAfter, StoppedError, bits, log, make_trainer, planned, weights
from torch import Tensor

from drcli.data.prepared import open_dataset
from drcli.diagnosis import diagnose_modality
from drcli.engine.device import set_determinism
from drcli.engine.evaluate import SplitOutputs, probe_modalities, run_split
from drcli.engine.run import execute
from drcli.engine.trainer import Trainer
from drcli.errors import RunError
from drcli.recipe.schema import Recipe
from drcli.watch.events import Listener

Make = Callable[..., Recipe]

OPTIMIZERS: Mapping[str, dict[str, Any]] = {
    "sgd": {"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4},
    "adam": {"name": "adam", "lr": 0.002},
    "adamw": {"name": "adamw", "lr": 0.002},
}
FILES = ("metrics.jsonl", "events.jsonl")
optimizers = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def training(optimizer: str = "sgd", **fields: Any) -> dict[str, Any]:
    return {"epochs": 3, "batch_size": 16, "optimizer": OPTIMIZERS[optimizer], **fields}


def trained(recipe: Recipe, folder: Path, device: torch.device) -> Trainer:
    trainer = make_trainer(recipe, folder, device=device)
    trainer.train()
    return trainer


def everything(trainer: Trainer) -> Any:
    """All bits of a run, and the lines of its logs."""
    folder = trainer.directory.folder
    return bits(trainer.state() | {"seconds": 0}), [log(folder / name) for name in FILES if (folder / name).exists()]


@optimizers
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.convolutions
def test_a_run_repeats_its_bits(
    device: torch.device, precision: str, optimizer: str, toy_recipe: Make, tmp_path: Path
) -> None:
    recipe = toy_recipe(training=training(optimizer, precision=precision))
    first, second = (trained(recipe, tmp_path / str(number), device) for number in (1, 2))
    assert everything(second) == everything(first)


def test_a_run_of_resnet_18_repeats_its_bits(
    device: torch.device, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """With its maximum pooling, whose gradient some versions of torch add up in any order, and its many layers."""
    recipe = encoded(toy_dict(), {"backbone": "resnet18"}, method="joint", training=training(epochs=1))
    first, second = (trained(recipe, tmp_path / str(number), device) for number in (1, 2))
    assert everything(second) == everything(first)


@optimizers
def test_a_resumed_run_has_the_same_bits(
    device: torch.device, optimizer: str, toy_recipe: Make, tmp_path: Path
) -> None:
    recipe = toy_recipe(training=training(optimizer))
    whole = trained(recipe, tmp_path / "whole", device)
    for _ in range(2):
        stopped = make_trainer(recipe, tmp_path / "stopped", device=device, listener=StopAfter(1))
        stopped.resume()
        with pytest.raises(StoppedError):
            stopped.train()
    resumed = make_trainer(recipe, tmp_path / "stopped", device=device)
    resumed.resume()
    assert resumed.next_epoch == 2
    resumed.train()
    assert everything(resumed) == everything(whole)


def test_resident_and_streamed_arrays_give_the_same_bits(
    device: torch.device, toy_recipe: Make, tmp_path: Path
) -> None:
    """With noise of training drawn on the device, and that of evaluation kept there."""
    noise = {"audio": {"snr_db": 5.0, "splits": ["train", "val"]}}
    states = []
    for where in ("resident", "stream"):
        trainer = trained(toy_recipe(training=training(data=where), corrupt=noise), tmp_path / where, device)
        assert trainer.ctx.train.rows.resident == (where == "resident")
        states.append((bits(weights(trainer)), log(trainer.directory.folder / "metrics.jsonl")))
    assert states[0] == states[1]


@optimizers
@pytest.mark.usefixtures("no_tf32")
def test_a_fused_optimiser_steps_as_one_that_is_not(
    device: torch.device, optimizer: str, toy_recipe: Make, tmp_path: Path
) -> None:
    """One kernel for all parameters, or torch's own choice: many at a time on a GPU, one after another on a CPU."""
    found = []
    for fused in ("on", "off"):
        fields = training(optimizer, precision="fp32", fused=fused, epochs=2)
        trainer = trained(toy_recipe(method="joint", training=fields), tmp_path / fused, device)
        assert bool(trainer.ctx.optimizer.param_groups[0]["fused"]) == (fused == "on")
        found.append(weights(trainer))
    for name, tensor in found[1].items():
        torch.testing.assert_close(found[0][name], tensor, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.convolutions
@pytest.mark.usefixtures("no_tf32")
def test_bf16_finds_nearly_what_fp32_finds(device: torch.device, toy_recipe: Make, tmp_path: Path) -> None:
    """Of the same weights: features to 2 %, purities and probes to three rows of the smallest split, which has 48."""
    fine = trained(toy_recipe(method="joint", training=training(precision="fp32")), tmp_path / "fp32", device)
    coarse = make_trainer(
        toy_recipe(method="joint", training=training(precision="bf16")), tmp_path / "bf16", device=device
    )
    coarse.assembly.model.load_state_dict(fine.assembly.model.state_dict())
    outputs = [{split: run_split(one.assembly, split) for split in ("train", "val", "test")} for one in (fine, coarse)]
    for split, exact in outputs[0].items():
        for m, features in exact.features.items():
            difference = (outputs[1][split].features[m] - features).norm() / features.norm()
            assert 0 < difference < 0.02, (split, m)
    probes = [probe_modalities(one, "test", device) for one in outputs]
    for m, probe in probes[0].items():
        assert probes[1][m].score == pytest.approx(probe.score, abs=3 / 48), m
        purities = [purity_of(one, m, fine, device) for one in outputs]
        assert purities[1] == pytest.approx(purities[0], abs=3 / 48), m


def purity_of(outputs: Mapping[str, SplitOutputs], m: str, trainer: Trainer, device: torch.device) -> float:
    def features(split: str) -> tuple[Tensor, Tensor]:
        return outputs[split].features[m].to(device), outputs[split].split.labels

    settings = trainer.recipe.diagnosis
    return diagnose_modality(
        *features("train"), *features("val"), num_classes=3, settings=settings, lambda_=1
    ).purity_train


@pytest.mark.parametrize("deterministic", [False, True])
def test_cublas_is_asked_to_repeat_itself_before_it_is_first_used(
    deterministic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch looks at it once: a run without the deterministic mode may come before one with it."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    set_determinism(deterministic)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
def test_too_little_memory_ends_with_what_to_do(toy_dict: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    encoder = {"backbone": "resnet_small", "width": 256}  # 40 MB and more: nothing that torch still holds is enough
    recipe = encoded(toy_dict(), encoder, method="joint", training=training())
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        with pytest.raises(RunError, match=r"out of memory on cuda; lower training\.batch_size, or set"):
            execute(
                planned(recipe, tmp_path / "run"),
                open_dataset(recipe.dataset.root),
                device=torch.device("cuda"),
                listener=Listener(),
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
