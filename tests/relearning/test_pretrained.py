"""The pull with pre-trained weights goes back to them, in every tensor that is trained; and slopes by modality."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.blobs import blobs
from support.training import StopAfter, StoppedError, bits, log, make_trainer, trained
from torch import Tensor, nn

from drcli import checkpoint
from drcli.diagnosis import strength
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError
from drcli.models.weights import load_pretrained
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.relearning import Relearner, strengths
from drcli.safetensors_file import write_safetensors

VIT = {"backbone": "vit", "layers": 2, "dim": 8, "heads": 2, "feedforward": 8}
ENCODERS = {"audio": VIT, "visual": {"backbone": "resnet_small", "width": 2}}
PULL = {"every": 1, "times": 1, "restarts": 1}
Make = Callable[..., Recipe]


@pytest.fixture
def make(toy: None, toy_dict: Callable[..., dict[str, Any]]) -> Make:
    """A recipe of joint training over "toy" with a `relearn:` block."""

    def recipe(modalities: dict[str, Any], relearn: dict[str, Any], **blocks: Any) -> Recipe:
        joint = {"method": "joint", "methods": {"joint": {"relearn": {**PULL, **relearn}}}, "modalities": modalities}
        return recipe_from_dict({**toy_dict(), **joint, **blocks}, where="the test's recipe")

    return recipe


def files_of(trainer: Trainer, folder: Path) -> tuple[dict[str, str], dict[str, dict[str, Tensor]]]:
    """Files of weights for both encoders, of torch and of safetensors, and what is in them."""
    model = trainer.assembly.model
    torch.manual_seed(7)
    tensors = {
        m: {name: torch.rand(x.shape) if x.is_floating_point() else x for name, x in encoder.state_dict().items()}
        for m, encoder in model.encoders.items()
    }
    torch.save(tensors["audio"], folder / "audio.pth")
    (folder / "visual.safetensors").write_bytes(write_safetensors(tensors["visual"], {}))
    return {"audio": str(folder / "audio.pth"), "visual": str(folder / "visual.safetensors")}, tensors


def test_at_strength_1_every_trained_tensor_is_that_of_the_file_again(make: Make, tmp_path: Path) -> None:
    """Positions, CLS token and layer normalisations too; running statistics stay unless `bn_buffers: blend`."""
    recipe = make(ENCODERS, {"strength": 1.0, "bn_buffers": "blend"})
    run = tmp_path / "run"
    files, tensors = files_of(make_trainer(recipe, tmp_path / "other"), tmp_path)
    trainer = make_trainer(recipe, run, listener=StopAfter(2))
    load_pretrained(trainer.assembly.model, files)  # before the trainer: see below
    with pytest.raises(StoppedError):
        Trainer(trainer.run, trainer.assembly, StopAfter(2)).train()
    state = checkpoint.load(trainer.directory.last)["model"]
    names = {name for name in tensors["audio"] if name.startswith(("cls", "positions", "norm"))}
    assert names >= {"cls", "positions", "norm.weight", "norm.bias"}
    for m, expected in tensors.items():
        found = {name: state[f"encoders.{m}.{name}"] for name, x in expected.items() if x.is_floating_point()}
        assert bits(found) == bits({name: expected[name] for name in found})


def test_frozen_parts_stay_and_the_others_are_pulled() -> None:
    linear, layer_norm, batch_norm = nn.Linear(2, 2), nn.LayerNorm(2), nn.BatchNorm1d(2)
    encoder = nn.Sequential(linear.requires_grad_(False), layer_norm, batch_norm.requires_grad_(False))
    assert batch_norm.running_mean is not None
    relearner = Relearner({"audio": encoder}, strength=1.0, bn_buffers="blend")
    initial = bits(dict(encoder.state_dict()))
    with torch.no_grad():
        layer_norm.weight.fill_(3.0)
        batch_norm.running_mean.fill_(0.1)
    kept = bits(batch_norm.state_dict())
    relearner.apply({"audio": 0.3})
    assert bits(batch_norm.state_dict()) == kept
    relearner.apply({"audio": 1.0})
    assert bits(layer_norm.state_dict()) == {name[2:]: x for name, x in initial.items() if name.startswith("1.")}
    assert bits(linear.state_dict()) == {name[2:]: x for name, x in initial.items() if name.startswith("0.")}


def test_slopes_by_modality_make_the_strengths(make: Make, tmp_path: Path) -> None:
    slopes = {"audio": 0.0, "visual": 5.0}
    tiny = {m: {"backbone": "tiny"} for m in slopes}
    trainer = trained(make(tiny, {"lambda": slopes}), tmp_path)
    (event,) = log(trainer.directory.folder / "events.jsonl")
    assert event["lambda"] == slopes
    for m, state in event["modalities"].items():
        assert state["strength"] == strength(state["gap"], slopes[m])


def test_every_rule_takes_the_slope_of_its_modality() -> None:
    encoders = {m: nn.Linear(2, 2) for m in ("audio", "visual")}
    relearner = Relearner(encoders, lambda_={"audio": 2.0, "visual": 1.0}, restarts=1)
    train = {m: blobs(60, spread=0.5, seed=s)[0] for s, m in enumerate(encoders)}
    val = {m: blobs(30, spread=2.5, seed=5 + s)[0] for s, m in enumerate(encoders)}
    found = relearner.diagnose((train, blobs(60)[1]), (val, blobs(30)[1]))
    equal = dict.fromkeys(encoders, found["audio"])
    for rule in ("gap", "above_floor", "adjusted"):
        pulled = strengths(rule, equal, lambda_={"audio": 2.0, "visual": 1.0})
        one = strengths(rule, equal, lambda_=1.0)
        assert pulled["audio"] > pulled["visual"] == one["visual"] > 0


@pytest.mark.parametrize(
    ("slopes", "said"),
    [
        ({"audio": 1.0}, "must name every modality, audio, visual"),
        ({"audio": 1.0, "visual": 1.0, "text": 1.0}, "names text; the modalities are audio, visual"),
        ({"audio": 1.0, "visual": -1.0}, r"lambda\.visual = -1"),
    ],
)
def test_slopes_that_do_not_fit_the_modalities_are_refused(slopes: dict[str, float], said: str, make: Make) -> None:
    tiny = {m: {"backbone": "tiny"} for m in ("audio", "visual")}
    with pytest.raises(RecipeError, match=rf"methods\.joint\.relearn\.lambda.*{said}|{said}"):
        make(tiny, {"lambda": slopes})


def test_a_loop_of_ones_own_is_told_of_missing_slopes() -> None:
    with pytest.raises(ValueError, match="lambda must name every modality, audio, visual"):
        Relearner({m: nn.Linear(2, 2) for m in ("audio", "visual")}, lambda_={"audio": 1.0})
