"""The compiled forward pass: given up with a reason, and never at the cost of a bit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.shared_runs import the_modality
from support.toy_recipes import two_epochs
from support.training import bits, make_trainer, trained, weights

from drcli.engine.device import compile_forward
from drcli.engine.trainer import Trainer
from drcli.methods.iprm import IPRM
from drcli.models.fusion import Outputs
from drcli.models.multimodal import MultimodalModel
from drcli.names import METHODS
from drcli.recipe.schema import Recipe

SHORT = {"epochs": 1, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}


@pytest.fixture
def trainer(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> Trainer:
    return make_trainer(toy_recipe(method="joint", training={**SHORT, "compile": "default"}), tmp_path / "compiled")


def test_what_is_not_asked_for_is_not_compiled(toy_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    trainer = make_trainer(toy_recipe(training=SHORT), tmp_path)
    assert compile_forward(trainer.ctx, trainer.assembly.method) is None
    assert trainer.assembly.model._compiled_call_impl is None


def test_a_compiler_that_fails_leaves_the_run_as_it_was(
    trainer: Trainer, toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: Any, *_: Any, **__: Any) -> None:
        def call(*_: Any, **__: Any) -> None:
            raise RuntimeError("no compiler here\nand more of it")

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", failing)
    state = torch.get_rng_state()
    said = compile_forward(trainer.ctx, trainer.assembly.method)
    assert said == "torch.compile failed (RuntimeError: no compiler here); the model runs uncompiled"
    assert torch.equal(torch.get_rng_state(), state)
    trainer.train()
    plain = trained(toy_recipe(method="joint", training=SHORT), tmp_path / "plain")
    assert bits(weights(trainer)) == bits(weights(plain))


def test_evaluation_is_tried_too(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing_in_evaluation(self: Any, **_: Any) -> None:
        def call(*arguments: Any, **keywords: Any) -> Any:
            if not self.training:
                raise RuntimeError("no graph of this")
            return self.forward(*arguments, **keywords)

        self._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", failing_in_evaluation)
    said = compile_forward(trainer.ctx, trainer.assembly.method)
    assert said == "torch.compile failed (RuntimeError: no graph of this); the model runs uncompiled"
    assert trainer.assembly.model.training


def test_the_trial_changes_no_weight_and_no_statistics(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: None)  # as if it compiled to itself
    before = bits(weights(trainer))
    assert compile_forward(trainer.ctx, trainer.assembly.method) is None
    assert bits(weights(trainer)) == before
    assert all(parameter.grad is None for parameter in trainer.assembly.model.parameters())


def test_the_trial_leaves_what_a_method_keeps_and_logs(
    toy_recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forward pass of iprm changes how it mixes the features."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: None)
    monkeypatch.setattr(IPRM, "compiled", True)
    training = {**SHORT, "compile": "default"}
    trainer = make_trainer(toy_recipe(method="iprm", methods={"iprm": {}}, training=training), tmp_path)
    method = trainer.assembly.method
    before = bits(method.state_dict())
    assert compile_forward(trainer.ctx, method) is None
    assert bits(method.state_dict()) == before
    assert trainer.ctx.take_logged() == {}
    method.forward(trainer.ctx, trainer.ctx.train.take(torch.arange(16)))
    assert bits(method.state_dict()) != before  # else this test could not fail


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("mla", "default", "mla trains parts of the model, never the whole, which is what is compiled"),
        (
            "mmpareto",
            "reduce-overhead",
            "CUDA graphs cannot replay how mmpareto goes back through the model; use default",
        ),
    ],
)
def test_what_cannot_be_compiled_is_said(
    name: str, mode: str, reason: str, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    trainer = make_trainer(toy_recipe(method=name, methods={name: {}}, training={**SHORT, "compile": mode}), tmp_path)
    said = compile_forward(trainer.ctx, trainer.assembly.method)
    assert said == f"{reason}; the model runs uncompiled"


@pytest.mark.parametrize("name", [name for name in METHODS.names() if METHODS.load(name).trains])
def test_a_method_says_whether_it_trains_the_whole_model(
    name: str, toy_dict: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what goes through the model's own call is compiled."""
    called = []

    def counted(model: MultimodalModel, *arguments: Any) -> Outputs:
        called.append(model.training)
        return forward(model, *arguments)

    forward = MultimodalModel.forward
    monkeypatch.setattr(MultimodalModel, "forward", counted)
    recipe = two_epochs(name, toy_dict())
    make_trainer(recipe, tmp_path / "run", modality=the_modality(recipe)).train()
    assert any(called) == METHODS.load(name).compiled


@pytest.mark.slow
def test_a_compiled_run_trains_to_nearly_the_same_losses(
    trainer: Trainer, toy_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, about its own
        assert compile_forward(trainer.ctx, trainer.assembly.method) is None
        trainer.train()
    plain = trained(toy_recipe(method="joint", training=SHORT), tmp_path / "plain")
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(trainer)[name], tensor, rtol=1e-2, atol=1e-3, msg=name)
