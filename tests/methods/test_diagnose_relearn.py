"""When D&R acts, what it changes by which formula, and what it leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference.soft_reinit import slow_relearning
from support.slow_diagnosis import slow_diagnosis
from support.training import bits, log, make_trainer, trained, weights
from torch import Tensor, nn

from drcli import checkpoint
from drcli.diagnosis import MeasureSettings, diagnose
from drcli.engine.trainer import Trainer
from drcli.methods.base import Event
from drcli.methods.diagnose_relearn import DiagnoseRelearn
from drcli.models.multimodal import extract_features
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.relearning import Relearner

SETTINGS = {"every": 1, "times": 2, "lambda": 3.0, "restarts": 2}


@pytest.fixture
def before_event(toy_dict: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a trainer after one epoch, at an epoch whose end is due for an event."""

    def make(modalities: tuple[str, ...] = ("audio", "visual"), optimizer: str = "sgd", **settings: Any) -> Trainer:
        training = {"epochs": 4, "batch_size": 16, "optimizer": {"name": optimizer, "lr": 0.02}}
        methods = {"diagnose_relearn": {**SETTINGS, **settings}}
        encoders = {m: {"backbone": "resnet_small", "width": 4} for m in modalities}  # with batch normalisation
        data = {**toy_dict(methods=methods, training=training), "modalities": encoders}
        trainer = make_trainer(recipe_from_dict(data, where="the test's recipe"), tmp_path / "run")
        trainer._epoch(0)
        trainer.ctx.epoch = 1
        return trainer

    return make


def event_of(trainer: Trainer) -> Event:
    event = trainer.assembly.method.on_epoch_end(trainer.ctx)
    assert event is not None
    return event


def initial_weights(trainer: Trainer) -> dict[str, Tensor]:
    method = trainer.assembly.method
    assert isinstance(method, DiagnoseRelearn)
    initial = method.relearning.relearner.initial
    return {f"encoders.{m}.{name}": t for m, tensors in initial.items() for name, t in tensors.items()}


def encoder_parameters(trainer: Trainer) -> set[str]:
    return {name for name, _ in trainer.assembly.model.named_parameters() if name.startswith("encoders.")}


@pytest.mark.parametrize(
    ("epochs", "every", "times", "expected"),
    [
        (90, 20, 3, [20, 40, 60]),
        (50, 20, 3, [20, 40]),
        (50, 1, 2, [1, 2]),
        (41, 20, 3, [20]),  # 40 is the last epoch
        (3, 1, 9, [1]),
        (2, 1, 9, []),
        (1, 1, 9, []),
        (50, 10, 0, []),
    ],
)
def test_schedule(epochs: int, every: int, times: int, expected: list[int]) -> None:
    relearner = Relearner({"audio": nn.Linear(1, 1)}, every=every, times=times, epochs=epochs)
    due = []
    for epoch in range(epochs):
        if relearner.is_due(epoch):
            due.append(epoch)
            relearner.events += 1
    assert due == expected


def test_an_event_follows_the_formula_and_moves_encoder_parameters_alone(
    before_event: Callable[..., Trainer],
) -> None:
    trainer = before_event(("audio", "visual", "text"))
    before, optimizer = weights(trainer), bits(copy.deepcopy(trainer.ctx.optimizer.state_dict()))
    event = event_of(trainer)
    strengths = {m: found.strength for m, found in event.found.items()}
    assert all(strength > 0 for strength in strengths.values())
    moved = encoder_parameters(trainer)
    expected = slow_relearning(before, initial_weights(trainer), strengths, moved)
    for name, tensor in weights(trainer).items():
        if name in moved:
            np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
            assert not torch.equal(tensor, before[name]), name
        else:
            assert bits(tensor) == bits(before[name]), name
    assert bits(trainer.ctx.optimizer.state_dict()) == optimizer


def test_an_event_measures_what_a_slow_diagnosis_measures(before_event: Callable[..., Trainer]) -> None:
    trainer = before_event()
    (train, labels_train), (val, labels_val) = trainer.ctx.features("train"), trainer.ctx.features("val")
    event = event_of(trainer)
    for m, found in event.found.items():
        expected = slow_diagnosis(
            train[m], labels_train, val[m], labels_val, num_classes=3, lambda_=3.0, options={"restarts": 2}
        )
        assert {key: getattr(found, key) for key in expected} == pytest.approx(expected, abs=1e-9)


def test_an_event_sees_the_weights_that_it_left_behind(before_event: Callable[..., Trainer]) -> None:
    trainer = before_event()
    before = trainer.ctx.features("train")[0]["audio"]
    event_of(trainer)
    assert not torch.equal(trainer.ctx.features("train")[0]["audio"], before)


def test_features_are_forgotten_when_an_optimiser_step_is_taken(before_event: Callable[..., Trainer]) -> None:
    """A method may look at features at the start of an epoch and again at its end."""
    trainer = before_event()
    before = trainer.ctx.features("val")[0]["audio"]
    batch = next(trainer.ctx.train.in_order(16))
    trainer.assembly.method.training_step(trainer.ctx, batch)
    assert not torch.equal(trainer.ctx.features("val")[0]["audio"], before)


def test_training_does_not_move_the_initial_weights(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    untouched = make_trainer(toy_recipe(), tmp_path / "untouched")
    trainer = trained(toy_recipe(), tmp_path / "trained")
    start = {name: t for name, t in weights(untouched).items() if name.startswith("encoders.")}
    assert bits(initial_weights(trainer)) == bits(start)
    own = {name: t for name, t in weights(trainer).items() if name in start}
    assert bits(own) != bits(start)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kept", ["keep", "reset_encoder", "reset"])
def test_optimizer_state(kept: str, optimizer: str, before_event: Callable[..., Trainer]) -> None:
    trainer = before_event(optimizer=optimizer, optimizer_state=kept, times=1)
    model, state = trainer.assembly.model, trainer.ctx.optimizer.state
    before = {name: bits(dict(state[parameter])) for name, parameter in model.named_parameters()}
    event_of(trainer)
    after = {name: bits(dict(state[parameter])) for name, parameter in model.named_parameters() if parameter in state}
    survives = {
        "keep": set(before),
        "reset_encoder": {name for name in before if name.startswith("fusion.")},
        "reset": set(),
    }[kept]
    assert after == {name: before[name] for name in before if name in survives}
    trainer._epoch(2)  # and training continues
    assert set(trainer.ctx.optimizer.state) == set(model.parameters())


def test_bn_buffers_blend_as_parameters_do(before_event: Callable[..., Trainer]) -> None:
    trainer = before_event(bn_buffers="blend")
    before = weights(trainer)
    event = event_of(trainer)
    strengths = {m: found.strength for m, found in event.found.items()}
    buffers = {name for name in before if name.endswith(("running_mean", "running_var"))}
    assert buffers
    expected = slow_relearning(before, initial_weights(trainer), strengths, encoder_parameters(trainer) | buffers)
    for name, tensor in weights(trainer).items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
        assert (
            name.startswith("fusion.") or name.endswith("num_batches_tracked") or not torch.equal(tensor, before[name])
        )


def test_bn_buffers_recompute_is_one_pass_over_train_in_stored_order(before_event: Callable[..., Trainer]) -> None:
    """Worked by hand for the first normalisation, whose input no other normalisation touches."""
    trainer = before_event(bn_buffers="recompute")
    momenta = [layer.momentum for layer in trainer.assembly.model.modules() if isinstance(layer, nn.BatchNorm2d)]
    trainer.assembly.model.train()
    event_of(trainer)
    audio: Any = trainer.assembly.model.encoders["audio"]
    stem = audio.stem
    inputs = torch.cat([batch.inputs["audio"] for batch in trainer.ctx.train.in_order(1000)])
    maps = nn.functional.conv2d(inputs, stem[0].weight.detach(), padding=1)
    assert len(maps) <= trainer.ctx.eval_batch_size  # a single batch: mean and variance of everything
    torch.testing.assert_close(stem[1].running_mean, maps.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(stem[1].running_var, maps.var(dim=(0, 2, 3), correction=1))
    layers = list(trainer.assembly.model.modules())
    assert all(layer.training for layer in layers)
    assert [layer.momentum for layer in layers if isinstance(layer, nn.BatchNorm2d)] == momenta


def test_bn_buffers_recompute_averages_over_batches(before_event: Callable[..., Trainer]) -> None:
    trainer = before_event(bn_buffers="recompute")
    trainer.ctx.eval_batch_size = 16
    event_of(trainer)
    visual: Any = trainer.assembly.model.encoders["visual"]
    stem = visual.stem
    pieces = [
        nn.functional.conv2d(batch.inputs["visual"], stem[0].weight.detach(), padding=1)
        for batch in trainer.ctx.train.in_order(16)
    ]
    assert len(pieces) == 4
    means = torch.stack([piece.mean(dim=(0, 2, 3)) for piece in pieces]).mean(dim=0)
    variances = torch.stack([piece.var(dim=(0, 2, 3), correction=1) for piece in pieces]).mean(dim=0)
    torch.testing.assert_close(stem[1].running_mean, means)
    torch.testing.assert_close(stem[1].running_var, variances)


def test_bn_buffers_recompute_leaves_the_generators_alone(before_event: Callable[..., Trainer]) -> None:
    trainer = before_event(bn_buffers="recompute")
    state = torch.get_rng_state()
    event_of(trainer)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_checkpoint_is_from_before_the_event_and_last_from_after(
    toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = make_trainer(toy_recipe(selection="last"), tmp_path)
    trainer._epoch(0)
    trainer._epoch(1)
    trainer.saver.flush()
    event = log(tmp_path / "events.jsonl")[0]
    strengths = {m: state["strength"] for m, state in event["modalities"].items()}
    before, after = checkpoint.load(tmp_path / "checkpoint.pt"), checkpoint.load(tmp_path / "last.pt")
    assert (before["epoch"], after["epoch"]) == (1, 1)
    assert (before["method"]["events"], after["method"]["events"]) == (0, 1)
    expected = slow_relearning(before["model"], initial_weights(trainer), strengths, encoder_parameters(trainer))
    for name, tensor in after["model"].items():
        np.testing.assert_allclose(tensor.numpy(), expected[name], rtol=1e-5, atol=1e-7, err_msg=name)
    assert bits(after["model"]) != bits(before["model"])


def test_events_are_logged_with_all_that_was_measured(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trained(toy_recipe(), tmp_path)
    events = log(tmp_path / "events.jsonl")
    head = [(event["epoch"], event["kind"], event["event"], event["lambda"]) for event in events]
    assert head == [(1, "relearn", 1, 3.0), (2, "relearn", 2, 3.0)]
    for event in events:
        assert list(event["modalities"]) == ["audio", "visual"]
        for found in event["modalities"].values():
            assert found["gap"] == pytest.approx(abs(found["purity_train"] - found["purity_val"]))
            assert found["strength"] == pytest.approx(np.tanh(3.0 * found["gap"]))
            assert {"gap_permuted", "num_train", "num_val"} <= set(found)
            assert found["after"]["gap"] == pytest.approx(
                abs(found["after"]["purity_train"] - found["after"]["purity_val"])
            )


def test_the_gap_that_a_re_learning_left_is_measured_on_the_pulled_weights(
    before_event: Callable[..., Trainer],
) -> None:
    trainer = before_event()
    event = event_of(trainer)
    again = trainer.ctx.diagnose(trainer.assembly.method.settings, 3.0)  # of the weights as they are now
    assert event.left == again
    assert event.left != event.found


@pytest.mark.parametrize("settings", [{"times": 0}, {"lambda": 0.0, "optimizer_state": "reset"}, {"every": 9}])
def test_re_learning_switched_off_is_joint_training_bit_for_bit(
    settings: dict[str, Any], toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    ours = trained(toy_recipe(methods={"diagnose_relearn": {**SETTINGS, **settings}}), tmp_path / "ours")
    joint = trained(toy_recipe(method="joint"), tmp_path / "joint")
    assert bits(weights(ours)) == bits(weights(joint))
    assert log(tmp_path / "ours" / "metrics.jsonl") == log(tmp_path / "joint" / "metrics.jsonl")
    events = tmp_path / "ours" / "events.jsonl"
    found = log(events) if events.exists() else []
    assert len(found) == (2 if "lambda" in settings else 0)
    assert all(d["strength"] == 0.0 for event in found for d in event["modalities"].values())


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_permuting_the_modalities_permutes_the_coefficients(
    fusion: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """The same weights under another order: the same loss, and each modality its own strength."""
    first = make_trainer(toy_recipe(("audio", "visual", "text"), fusion=fusion), tmp_path / "1")
    first._epoch(0)
    second = make_trainer(toy_recipe(("text", "audio", "visual"), fusion=fusion), tmp_path / "2")
    state = weights(first)
    if fusion == "concat":
        audio, visual, text = state["fusion.linear.weight"].chunk(3, dim=1)
        state["fusion.linear.weight"] = torch.cat([text, audio, visual], dim=1)
    second.assembly.model.load_state_dict(state)
    first.ctx.epoch = second.ctx.epoch = 1
    losses = [trainer._evaluate()["val"].loss for trainer in (first, second)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    ours, theirs = (event_of(trainer).found for trainer in (first, second))
    assert (list(ours), list(theirs)) == (["audio", "visual", "text"], ["text", "audio", "visual"])
    assert ours == theirs


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"every": 1}, ""), ({"every": 2}, "only 1 of 2"), ({"every": 3}, "no re-learning"), ({"times": 0}, "no")],
)
def test_a_run_that_re_learns_less_often_than_asked_for_says_so(
    settings: dict[str, Any], said: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    """Of four epochs, only those of index 1 and 2 can end in an event."""
    trainer = make_trainer(toy_recipe(methods={"diagnose_relearn": {**SETTINGS, **settings}}), tmp_path)
    found = list(trainer.assembly.method.warnings(trainer.ctx))
    assert [line.startswith(said) for line in found] == ([True] if said else [])


def test_a_sampled_diagnosis_encodes_only_its_rows_and_finds_what_one_of_all_features_finds(
    before_event: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = before_event().ctx
    settings = MeasureSettings(sample=24, restarts=2)
    rows: list[int] = []

    def noting(*arguments: Any) -> Any:
        found = extract_features(*arguments)
        rows.append(len(found[1]))
        return found

    monkeypatch.setattr("drcli.methods.context.extract_features", noting)
    ctx.weights_changed()
    sampled = ctx.diagnose(settings, 3.0)
    assert ctx.diagnose(settings, 3.0) == sampled
    assert rows == [24, 24]  # of 60 and 48, once each
    ctx.weights_changed()
    (train, labels_train), (val, labels_val) = ctx.features("train"), ctx.features("val")
    assert ctx.diagnose(settings, 3.0) == sampled
    assert rows == [24, 24, 60, 48]  # from the features of all rows, which are there
    whole = diagnose(train, labels_train, val, labels_val, num_classes=3, settings=settings, lambda_=3.0)
    assert whole == sampled
