"""Rates of parts, warm-up, averages of weights and half precision in whole runs: what moves, and how they resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained, weights

from drcli import checkpoint
from drcli.diagnosis import snapshot
from drcli.engine.assemble import precision_on, restore
from drcli.engine.evaluate import run_split
from drcli.engine.trainer import Trainer
from drcli.errors import CheckpointError, RecipeError
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe

Make = Callable[..., Recipe]
TRAINING = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
JOINT = {"method": "joint", "methods": {"joint": {}}}
PULL = {"every": 1, "times": 1, "restarts": 1}


@pytest.fixture
def make(toy: None, toy_dict: Callable[..., dict[str, Any]]) -> Make:
    """A recipe of joint training over "toy"; keyword arguments go into `training`."""

    def recipe(blocks: dict[str, Any] | None = None, **training: Any) -> Recipe:
        data = {**toy_dict(), **JOINT, **(blocks or {}), "training": {**TRAINING, **training}}
        return recipe_from_dict(data, where="the test's recipe")

    return recipe


def resumed(recipe: Recipe, folder: Path) -> Trainer:
    """A run that was stopped in its second epoch and went on."""
    with pytest.raises(StoppedError):
        make_trainer(recipe, folder, listener=StopAfter(1)).train()
    trainer = make_trainer(recipe, folder)
    trainer.resume()
    trainer.train()
    return trainer


EXTRAS: dict[str, dict[str, Any]] = {
    "rates": {"blocks": {"modalities": {"audio": {"backbone": "tiny", "lr": 0.01, "layer_decay": 0.5},
                                        "visual": {"backbone": "tiny"}}, "fusion": {"name": "concat", "lr": 0.1}}},
    "warm-up": {"schedule": {"name": "linear", "warmup": 0.5}},
    "ema": {"ema": 0.9, "accumulate": 2, "clip_grad_norm": 0.5},
    "fp16": {"precision": "fp16", "accumulate": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", EXTRAS)
def test_a_resumed_run_ends_with_the_same_bits(name: str, make: Make, tmp_path: Path) -> None:
    recipe = make(**EXTRAS[name])
    whole, again = trained(recipe, tmp_path / "whole"), resumed(recipe, tmp_path / "resumed")
    states = [checkpoint.load(trainer.directory.last) for trainer in (whole, again)]
    assert bits({**states[0], "seconds": 0}) == bits({**states[1], "seconds": 0})
    assert bits(states[0]["model"]) != bits(
        checkpoint.load(trained(make(), tmp_path / "plain").directory.last)["model"]
    )


def test_a_part_moves_at_its_own_rate(make: Make, tmp_path: Path) -> None:
    """Of a rate 1000 times smaller, plain gradient descent makes a step 1000 times smaller."""
    plain = {"name": "sgd", "lr": 0.05, "momentum": 0.0, "weight_decay": 0.0}
    moved = {}
    for lr in (0.05, 5e-5):
        blocks = {"modalities": {"audio": {"backbone": "tiny", "lr": lr}, "visual": {"backbone": "tiny"}}}
        trainer = make_trainer(make(blocks, epochs=1, batch_size=60, optimizer=plain), tmp_path / str(lr))
        before = weights(trainer)
        trainer.train()
        after = trainer.assembly.model
        moved[lr] = {name: (p.detach() - before[name]) for name, p in after.named_parameters()}
    for name, step in moved[0.05].items():
        if name.startswith("encoders.audio"):
            torch.testing.assert_close(moved[5e-5][name], step / 1000, rtol=0.05, atol=1e-7)
        else:
            assert torch.equal(moved[5e-5][name], step)


def test_neutral_settings_change_no_bit(make: Make, tmp_path: Path) -> None:
    same = {"lr": 0.05, "layer_decay": 1.0, "checkpointing": False, "lora": None}
    blocks = {
        "modalities": {m: {"backbone": "tiny", **same} for m in ("audio", "visual")},
        "fusion": {"name": "concat", "lr": 0.05},
    }
    runs = [trained(make(), tmp_path / "plain"), trained(make(blocks, ema=None), tmp_path / "neutral")]
    assert bits(weights(runs[0])) == bits(weights(runs[1]))


def test_averages_worked_by_hand_are_what_is_scored_and_kept(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """d_1 = min(0.2, 2 / 11), d_2 = min(0.2, 3 / 12)."""
    plain = make_trainer(make(epochs=1, batch_size=30), tmp_path / "plain")
    states = [weights(plain)]
    step = plain.ctx.apply_gradients

    def noted() -> None:
        step()
        states.append(weights(plain))

    monkeypatch.setattr(plain.ctx, "apply_gradients", noted)
    plain.train()
    averaged = trained(make(epochs=1, batch_size=30, ema=0.2), tmp_path / "averaged")
    assert bits(weights(averaged)) == bits(weights(plain)), "averages change nothing about the training"
    name = "encoders.audio.layers.0.weight"
    first = 2 / 11 * states[0][name] + 9 / 11 * states[1][name]
    expected = 0.2 * first + 0.8 * states[2][name]
    for path in (averaged.directory.last, averaged.directory.checkpoint):
        torch.testing.assert_close(checkpoint.load(path)["model"][name], expected)
    last = restore(averaged.directory.last, torch.device("cpu"), root=averaged.assembly.dataset.root).assembly
    loss = log(averaged.directory.folder / "metrics.jsonl")[-1]["val"]["loss"]
    assert run_split(last, "val").scores().loss == pytest.approx(loss)
    assert loss != pytest.approx(log(plain.directory.folder / "metrics.jsonl")[-1]["val"]["loss"])


def test_a_pull_of_strength_1_puts_weights_and_averages_back(make: Make, tmp_path: Path) -> None:
    blocks = {"method": "joint", "methods": {"joint": {"relearn": {**PULL, "strength": 1.0, "bn_buffers": "blend"}}}}
    trainer = make_trainer(make(blocks, ema=0.5, epochs=3), tmp_path, listener=StopAfter(2))
    initial = {m: snapshot(encoder) for m, encoder in trainer.assembly.model.encoders.items()}
    with pytest.raises(StoppedError):
        trainer.train()
    state = checkpoint.load(trainer.directory.last)
    for m, tensors in initial.items():
        for name, value in tensors.items():
            if value.is_floating_point():
                assert torch.equal(state["model"][f"encoders.{m}.{name}"], value)
                assert torch.equal(state["ema"]["weights"][f"model.encoders.{m}.{name}"], value)
    assert not torch.equal(
        state["model"]["fusion.linear.weight"], state["ema"]["weights"]["model.fusion.linear.weight"]
    )


def test_a_diagnosis_is_of_the_weights_that_are_trained_and_not_of_their_averages(make: Make, tmp_path: Path) -> None:
    found = []
    for ema in (None, 0.999):
        blocks = {"methods": {"joint": {"relearn": PULL}}}
        trainer = trained(make(blocks, ema=ema), tmp_path / str(ema))
        found.append((log(trainer.directory.folder / "events.jsonl"), bits(weights(trainer))))
    assert found[0] == found[1]


def test_a_step_that_overflows_is_left_out_and_counted(make: Make, tmp_path: Path) -> None:
    trainer = make_trainer(make(precision="fp16", epochs=1, batch_size=30), tmp_path)
    assert trainer.ctx.scaler is not None
    trainer.ctx.scaler.load_state_dict({**trainer.ctx.scaler.state_dict(), "scale": 2.0**100})
    before = weights(trainer)
    trainer.train()
    record = log(trainer.directory.folder / "metrics.jsonl")[-1]
    assert record["train"]["skipped_steps"] == 2
    assert trainer.ctx.step == 0
    assert bits(dict(trainer.assembly.model.named_parameters())) == bits(
        {name: value for name, value in before.items() if name in dict(trainer.assembly.model.named_parameters())}
    )
    assert checkpoint.load(trainer.directory.last)["scaler"]["scale"] == 2.0**98


def test_half_precision_trains_about_the_same_weights(make: Make, tmp_path: Path) -> None:
    full, half = (trained(make(precision=p), tmp_path / p) for p in ("fp32", "fp16"))
    for name, value in weights(full).items():
        torch.testing.assert_close(weights(half)[name], value, rtol=0.05, atol=0.02)


@pytest.mark.parametrize(("has", "expected"), [(True, "auto"), (False, "fp16")])
def test_a_gpu_without_bf16_computes_in_fp16(has: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert precision_on(torch.device("cuda"), "auto") == expected
    assert precision_on(torch.device("cuda"), "bf16") == "bf16"
    assert precision_on(torch.device("cpu"), "auto") == "auto"


@pytest.mark.parametrize(
    ("settings", "key", "value", "said"),
    [
        ({"ema": 0.9}, "ema", {"steps": 1, "weights": {}}, r"ema\.weights"),
        ({"precision": "fp16"}, "scaler", {"scale": -1.0}, "scaler.*scale is"),
    ],
)
def test_a_checkpoint_without_their_state_is_refused(
    settings: dict[str, Any], key: str, value: Any, said: str, make: Make, tmp_path: Path
) -> None:
    recipe = make(**settings, epochs=2)
    with pytest.raises(StoppedError):
        make_trainer(recipe, tmp_path, listener=StopAfter(1)).train()
    trainer = make_trainer(recipe, tmp_path)
    state = {**checkpoint.load(trainer.directory.last), key: value}
    checkpoint.save(
        trainer.directory.last, {name: item for name, item in state.items() if name != "checkpoint_version"}
    )
    with pytest.raises(CheckpointError, match=said):
        trainer.resume()


@pytest.mark.parametrize(
    ("blocks", "training", "said"),
    [
        (
            {},
            {"schedule": {"name": "linear", "warmup": 3}},
            r"schedule\.warmup = 3\.0 +must be less than training\.epochs",
        ),
        ({}, {"schedule": {"name": "cosine", "warmup": 0.1, "warmup_epochs": 1}}, "leave it out: warmup says"),
        ({}, {"ema": 1.0}, r"training\.ema = 1\.0"),
        ({"modalities": {"audio": {"backbone": "tiny", "lr": 0}}}, {}, r"modalities\.audio\.lr = 0"),
        ({"modalities": {"audio": {"backbone": "tiny", "layer_decey": 0.5}}}, {}, "Did you mean layer_decay"),
        ({"modalities": {"audio": {"backbone": "tiny", "lora": {"rank": 0}}}}, {}, r"audio\.lora\.rank = 0"),
        ({"fusion": {"name": "concat", "lr": -1}}, {}, r"fusion\.lr = -1"),
    ],
)
def test_wrong_settings_are_refused_with_their_key(
    blocks: dict[str, Any], training: dict[str, Any], said: str, make: Make
) -> None:
    with pytest.raises(RecipeError, match=said):
        make(blocks, **training)
