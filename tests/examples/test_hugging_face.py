"""The callback of the example for Hugging Face's Trainer pulls by its diagnosis, resumes, and leaves no other trace."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits
from torch import Tensor, nn

MISSING = [name for name in ("transformers", "accelerate") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

Fit = Callable[..., dict[str, Tensor]]


@pytest.fixture(scope="module")
def loop() -> Any:
    """The example; transformers is imported here, and not where tests are collected."""
    from support.examples import example

    return example("hugging_face")


@pytest.fixture
def fit(loop: Any, tmp_path: Path) -> Fit:
    """Trains the model of the example for three epochs of one step each, and returns its weights."""

    def make(folder: str = "run", **arguments: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        model = loop.TextAndAudio()
        settings = {"epochs": 3, "every": 1, "times": 1, "restarts": 1, **arguments}
        loop.train(model, loop.made_up(24, seed=1), loop.made_up(16, seed=2), tmp_path / folder, **settings)
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}

    return make


def test_an_event_pulls_the_encoders_after_the_checkpoint_of_its_epoch(loop: Any, fit: Fit, tmp_path: Path) -> None:
    seen: dict[str, dict[str, Tensor]] = {}

    class Look(loop.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *arguments: Any, model: nn.Module, **_: Any) -> None:
            seen["start"] = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}

        def on_epoch_begin(self, *arguments: Any, model: nn.Module, **_: Any) -> None:
            seen["pulled"] = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}

    fit(callbacks=(Look(),), strength=0.5)
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    for name, pulled in seen["pulled"].items():
        a = 0.0 if name.startswith("head") else 0.5
        torch.testing.assert_close(pulled, a * seen["start"][name] + (1 - a) * saved[name])


def test_a_resumed_training_pulls_as_one_that_was_not_stopped(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = fit(strength=0.5)
    assert capsys.readouterr().out.count("epoch 1: re-learning 1: text purity") == 1
    for step, pulls in ((2, 1), (3, 0)):  # a checkpoint before the event, and one after it
        resumed = fit(strength=0.5, resume=tmp_path / "run" / f"checkpoint-{step}")
        assert capsys.readouterr().out.count("re-learning 1") == pulls
        assert bits(resumed) == bits(whole)


def test_an_event_that_pulls_nothing_changes_nothing(fit: Fit) -> None:
    with pytest.warns(UserWarning, match="no re-learning will happen"):
        without = fit("without", times=0)
    assert bits(fit("with", lambda_=0.0)) == bits(without)
