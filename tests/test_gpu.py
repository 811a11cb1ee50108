"""CUDA against the CPU: the same run up to rounding, exact resuming, the same diagnosis."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import CPU, StopAfter, StoppedError, bits, log, make_trainer, weights

from drcli import checkpoint
from drcli.data.batches import Batches
from drcli.data.format import ModalityInfo
from drcli.data.input import InputSettings
from drcli.data.plan import InputPlan
from drcli.data.prepared import Split
from drcli.data.rows import Residence
from drcli.diagnosis import diagnose, soft_reinitialise
from drcli.engine.assemble import restore
from drcli.engine.device import compile_forward
from drcli.engine.evaluate import run_split
from drcli.methods.diagnose_relearn import DiagnoseRelearn
from drcli.recipe.schema import Recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here"),
]

CUDA = torch.device("cuda")
SHORT = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.02}, "precision": "fp32"}
# After three epochs in float32 (TF32 off) rounding has grown by steps, never by more than this.
WEIGHTS: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3}
FEATURES: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(autouse=True)
def _float32_and_back() -> Iterator[None]:
    mode, tf32 = torch.get_deterministic_debug_mode(), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_deterministic_debug_mode(mode)


def test_joint_training_agrees_with_the_cpu(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = toy_recipe(method="joint", training=SHORT)
    trainers = [make_trainer(recipe, tmp_path / device.type, device=device) for device in (CPU, CUDA)]
    assert bits(weights(trainers[0])) == bits(weights(trainers[1]))  # the same initial weights
    for trainer in trainers:
        trainer.train()
    ours = {name: tensor.cpu() for name, tensor in weights(trainers[1]).items()}
    torch.testing.assert_close(ours, weights(trainers[0]), **WEIGHTS)
    losses = [[line["train"]["loss"] for line in log(t.directory.folder / "metrics.jsonl")] for t in trainers]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_resumed_run_has_the_same_bits(epochs: int, toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """D&R, on one device in deterministic mode."""
    recipe = toy_recipe(training=SHORT)
    whole = make_trainer(recipe, tmp_path / "whole", device=CUDA)
    whole.train()
    with pytest.raises(StoppedError):
        make_trainer(recipe, tmp_path / "stopped", device=CUDA, listener=StopAfter(epochs)).train()
    resumed = make_trainer(recipe, tmp_path / "stopped", device=CUDA)
    resumed.resume()
    resumed.train()
    assert bits(weights(resumed)) == bits(weights(whole))
    assert log(resumed.directory.folder / "metrics.jsonl") == log(whole.directory.folder / "metrics.jsonl")
    assert log(resumed.directory.folder / "events.jsonl") == log(whole.directory.folder / "events.jsonl")


def test_a_checkpoint_is_scored_and_diagnosed_as_on_the_cpu(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """A sample at the boundary of two classes or clusters may fall to either side: one of 24 or 60."""
    recipe = toy_recipe(method="joint", training=SHORT)
    make_trainer(recipe, tmp_path, device=CUDA).train()
    features, found, scores = {}, {}, {}
    for device in (CPU, CUDA):
        assembly = restore(tmp_path / "checkpoint.pt", device).assembly
        scores[device] = run_split(assembly, "val").scores()
        trainer = make_trainer(recipe, tmp_path / device.type, device=device)
        trainer.assembly.model.load_state_dict(assembly.model.state_dict())
        (train, labels_train), (val, labels_val) = trainer.ctx.features("train"), trainer.ctx.features("val")
        features[device] = train
        found[device] = diagnose(
            train,
            labels_train,
            val,
            labels_val,
            num_classes=3,
            settings=recipe.diagnosis,
            lambda_=recipe.diagnosis.lambda_,
        )
    torch.testing.assert_close(features[CUDA], features[CPU], **FEATURES)
    assert scores[CUDA].loss == pytest.approx(scores[CPU].loss, rel=1e-3)
    right = {place: found.to_dict()["accuracy"] for place, found in scores.items()}
    assert right[CUDA] == pytest.approx(right[CPU], abs=1 / 24 + 1e-9)
    for m, diagnosis in found[CPU].items():
        assert found[CUDA][m].purity_train == pytest.approx(diagnosis.purity_train, abs=1 / 60 + 1e-9)
        assert found[CUDA][m].purity_val == pytest.approx(diagnosis.purity_val, abs=1 / 24 + 1e-9)


def test_an_event_on_the_device_is_the_event_on_the_cpu(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """The same weights and strengths on either device; only the blend is computed there."""
    recipe = toy_recipe(training=SHORT)
    after = []
    for device in (CPU, CUDA):
        trainer = make_trainer(recipe, tmp_path / device.type, device=device)
        with torch.no_grad():
            for parameter in trainer.assembly.model.parameters():
                parameter.add_(0.5)
        assert isinstance(trainer.assembly.method, DiagnoseRelearn)
        relearner = trainer.assembly.method.relearning.relearner
        soft_reinitialise(relearner.encoders["audio"], relearner.initial["audio"], 0.25)
        after.append({name: tensor.cpu() for name, tensor in weights(trainer).items()})
    torch.testing.assert_close(after[1], after[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("residence", ["resident", "stream"])
def test_frames_give_the_same_inputs_as_on_the_cpu(residence: Residence) -> None:
    """Crops, flips and frames are drawn on the CPU, and evaluation shows the middle frames."""
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (6, 5, 3, 12, 16), dtype=torch.uint8, generator=generator)
    split = Split("train", {"visual": stored}, torch.arange(6) % 2, torch.arange(6), torch.ones(6, dtype=torch.float64))
    info = ModalityInfo((5, 3, 12, 16), "uint8", (127.5,) * 3, (50.0,) * 3, "frames")
    plans = {"visual": InputPlan(info, InputSettings(frames=2, size=8, flip=True))}
    here, there = Batches(split, plans, CPU), Batches(split, plans, CUDA, residence)
    for one, other in zip(here.in_order(4), there.in_order(4), strict=True):
        torch.testing.assert_close(other.inputs["visual"].cpu(), one.inputs["visual"], **FEATURES)
    epochs = [list(batches.shuffled(4, *_generators())) for batches in (here, there)]
    for one, other in zip(*epochs, strict=True):
        assert torch.equal(other.labels.cpu(), one.labels)
        torch.testing.assert_close(other.inputs["visual"].cpu(), one.inputs["visual"], **FEATURES)


def _generators() -> tuple[torch.Generator, torch.Generator]:
    return torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
def test_a_step_does_not_wait_for_the_device(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(toy_recipe(method="joint", training=SHORT), tmp_path, device=CUDA)
    batches = trainer.ctx.train.shuffled(16, *_generators())
    trainer.assembly.method.training_step(trainer.ctx, next(batches))  # the first one loads what torch needs
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.assembly.method.training_step(trainer.ctx, next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_evaluation_keeps_what_cuda_graphs_overwrite(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """48 rows in six batches of one shape: replays into the same memory, since the trial has recorded it."""
    training = {**SHORT, "compile": "reduce-overhead", "eval_batch_size": 8}
    trainer = make_trainer(toy_recipe(method="joint", training=training), tmp_path, device=CUDA)
    plain = run_split(trainer.assembly, "val")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about its own
        assert compile_forward(trainer.ctx, trainer.assembly.method) is None
        replayed = run_split(trainer.assembly, "val")
    torch.testing.assert_close(replayed.logits, plain.logits, **FEATURES)
    torch.testing.assert_close(replayed.features, plain.features, **FEATURES)


def test_a_saver_writes_what_was_on_the_device_when_it_was_asked(tmp_path: Path) -> None:
    saver, weight = checkpoint.Saver(), torch.zeros(2**20, device=CUDA)
    for epoch in range(5):
        weight += 1
        saver.save(tmp_path / f"{epoch}.pt", {"nested": [{"weight": weight}]})
    weight += 100
    saver.flush()
    for epoch in range(5):
        assert checkpoint.load(tmp_path / f"{epoch}.pt")["nested"][0]["weight"].unique().tolist() == [epoch + 1.0]
