"""Adapters: where they are, that nothing else of their encoder moves, and what becomes of pre-trained weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.training import StopAfter, StoppedError, bits, make_trainer, trained, weights
from torch import Tensor, nn

import drcli
from drcli import checkpoint
from drcli.commands.export import export
from drcli.engine.trainer import Trainer
from drcli.errors import RecipeError, UsageError
from drcli.models.backbone import Backbone
from drcli.models.foreign import Foreign
from drcli.models.lora import adapt, linear_layers, merged, without_adapters
from drcli.models.weights import _compared, load_pretrained
from drcli.names import BACKBONES
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import Recipe
from drcli.recipe.training import Lora

VIT = {"backbone": "vit", "layers": 2, "dim": 8, "heads": 2, "feedforward": 8}
ENCODERS: list[tuple[str, dict[str, Any], tuple[int, ...], tuple[str, ...] | None]] = [
    ("vit", {"layers": 2, "dim": 8, "heads": 2}, (1, 8, 8), ("query", "value")),
    ("transformer", {"layers": 2, "dim": 8, "heads": 2, "feedforward": 8}, (4, 5), None),
    ("mlp", {"hidden": (8, 8)}, (5,), None),
    ("resnet_small", {"width": 4}, (1, 8, 8), ("conv1",)),
]
every_encoder = pytest.mark.parametrize(
    ("name", "settings", "shape", "targets"), ENCODERS, ids=[name for name, *_ in ENCODERS]
)
Make = Callable[..., Recipe]


@pytest.fixture
def make(toy: None, toy_dict: Callable[..., dict[str, Any]]) -> Make:
    """A recipe over "toy" with adapters on the audio encoder alone."""

    def recipe(lora: Any, encoder: dict[str, Any] = VIT, **blocks: Any) -> Recipe:
        modalities = {"audio": {**encoder, "lora": lora}, "visual": {"backbone": "tiny"}}
        training = {"epochs": 3, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}}
        joint = {"method": "joint", "methods": {"joint": {}}}
        return recipe_from_dict(
            {**toy_dict(), **joint, "modalities": modalities, "training": training, **blocks}, where="the test's recipe"
        )

    return recipe


def encoder_of(name: str, settings: dict[str, Any], shape: tuple[int, ...]) -> Any:
    torch.manual_seed(0)
    backbone = BACKBONES.load(name)
    return backbone(backbone.Settings(**settings), shape)


def audio(tensors: dict[str, Tensor], *, adapters: bool) -> dict[str, Tensor]:
    """What a run holds of the audio encoder: its adapters, or everything else."""
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("encoders.audio.")}
    return {name: tensor for name, tensor in own.items() if ("lora_" in name) == adapters}


@pytest.mark.slow
@every_encoder
def test_adapters_change_nothing_at_first_and_are_in_every_pass(
    name: str, settings: dict[str, Any], shape: tuple[int, ...], targets: tuple[str, ...] | None
) -> None:
    """In evaluation without gradients, too, where torch's transformer layers have a fast path around them."""
    encoder, x = encoder_of(name, settings, shape).eval(), torch.randn(3, *shape)
    with torch.no_grad():
        before = encoder(x)
        adapt(encoder, Lora(rank=2, alpha=3.0, targets=targets))
        encoder.eval()
        torch.testing.assert_close(encoder(x), before)
        for parameter_name, parameter in encoder.named_parameters():
            assert parameter.requires_grad == ("lora_" in parameter_name)
            if "lora_B" in parameter_name:
                parameter.normal_()
        after = encoder(x)
        assert not torch.allclose(after, before)
        plain = encoder_of(name, settings, shape).eval()
        plain.load_state_dict(merged(encoder))
        torch.testing.assert_close(plain(x), after, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_update_is_alpha_over_rank_times_b_a() -> None:
    encoder = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2))
    adapt(encoder, Lora(rank=4, alpha=6.0, targets=("0",)))
    layer: Any = encoder[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert (a.shape, b.shape) == ((4, 3), (2, 4))
    nn.init.normal_(b)
    torch.testing.assert_close(merged(encoder)["0.weight"], layer.base_layer.weight + 1.5 * b @ a)
    assert not hasattr(encoder[1], "base_layer"), "only where asked"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["joint", "g2d", "di_mml"])
def test_a_run_moves_adapters_and_nothing_else_of_their_encoder(method: str, make: Make, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"g2d": {"stand_still": "frozen"}}.get(method, {})
    trainer = make_trainer(make({"rank": 2}, method=method, methods={method: settings}), tmp_path)
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    assert bits(audio(after, adapters=False)) == bits(audio(before, adapters=False))
    moved = [not torch.equal(after[name], before[name]) for name in audio(after, adapters=True)]
    assert all(moved)
    assert not torch.equal(after["fusion.linear.weight"], before["fusion.linear.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("buffers", ["keep", "blend", "recompute"])
def test_running_statistics_of_a_frozen_encoder_stay(buffers: str, make: Make, tmp_path: Path) -> None:
    relearn = {"every": 1, "times": 1, "restarts": 1, "strength": 0.3, "bn_buffers": buffers}
    lora = {"rank": 2, "targets": ["conv1"]}
    recipe = make(lora, {"backbone": "resnet_small", "width": 2}, methods={"joint": {"relearn": relearn}})
    trainer = make_trainer(recipe, tmp_path)
    before = weights(trainer)
    trainer.train()
    assert bits(audio(weights(trainer), adapters=False)) == bits(audio(before, adapters=False))


@pytest.mark.slow
def test_the_pull_acts_on_adapters_alone_and_at_strength_1_goes_back_to_the_pre_trained_model(
    make: Make, tmp_path: Path
) -> None:
    relearn = {"every": 1, "times": 1, "restarts": 1, "strength": 1.0}
    trainer = make_trainer(make({"rank": 2}, methods={"joint": {"relearn": relearn}}), tmp_path, listener=StopAfter(2))
    before = weights(trainer)
    with pytest.raises(StoppedError):
        trainer.train()
    state = checkpoint.load(trainer.directory.last)
    found = {name: state["model"][name] for name in before if name.startswith("encoders.audio.")}
    assert bits(found) == bits({name: before[name] for name in found})
    assert [name for name in state["relearn"]["initial"]["audio"] if "lora_" in name]


@pytest.mark.slow
def test_pre_trained_weights_go_under_the_adapters(make: Make, tmp_path: Path) -> None:
    trainer = make_trainer(make({"rank": 2}), tmp_path)
    encoder = trainer.assembly.model.encoders["audio"]
    assert isinstance(encoder, Backbone)
    with without_adapters(encoder):
        weights_of_file = {name: torch.randn_like(tensor) for name, tensor in encoder.state_dict().items()}
    torch.save(weights_of_file, tmp_path / "w.pt")
    load_pretrained(trainer.assembly.model, {"audio": str(tmp_path / "w.pt")})
    assert bits(merged(encoder)) == bits(weights_of_file)
    assert any("base_layer" in name for name in encoder.state_dict())


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits_and_exports_an_encoder_without_adapters(
    make: Make, tmp_path: Path
) -> None:
    recipe = make({"rank": 2, "dropout": 0.2})
    whole = trained(recipe, tmp_path / "whole")
    with pytest.raises(StoppedError):
        make_trainer(recipe, tmp_path / "resumed", listener=StopAfter(1)).train()
    again: Trainer = make_trainer(recipe, tmp_path / "resumed")
    again.resume()
    again.train()
    assert bits(weights(whole)) == bits(weights(again))
    out = tmp_path / "audio.safetensors"
    export(whole.directory.last, "audio", out)
    other = make_trainer(make(None), tmp_path / "other").assembly.model
    load_pretrained(other, {"audio": str(out)})
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        expected = drcli.load(whole.directory.last).encoders["audio"](x)
        torch.testing.assert_close(other.encoders["audio"].eval()(x), expected, rtol=1e-4, atol=1e-5)


def test_linear_layers_inside_torchs_attention_are_left_out() -> None:
    encoder = encoder_of(*ENCODERS[1][:3])
    assert linear_layers(encoder) == [
        "project", "layers.layers.0.linear1", "layers.layers.0.linear2",
        "layers.layers.1.linear1", "layers.layers.1.linear2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lora", "encoder", "said"),
    [
        ({"targets": ["qery"]}, VIT, r"modalities\.audio\.lora.*ends in, qery; layers: blocks\.0\.attention\.1\.query"),
        ({"targets": ["out_proj"]}, {"backbone": "transformer"}, r"out_proj is inside nn\.MultiheadAttention"),
        ({}, {"backbone": "resnet_small"}, "has no linear layer; name its layers in targets"),
        ({"rank": 0}, VIT, r"modalities\.audio\.lora\.rank = 0"),
    ],
)
def test_wrong_targets_are_refused_before_any_data_is_read(
    lora: dict[str, Any], encoder: dict[str, Any], said: str, make: Make
) -> None:
    with pytest.raises(RecipeError, match=said):
        make(lora, encoder)


def test_adapters_in_layers_that_are_to_be_frozen_are_refused() -> None:
    block = SimpleNamespace(settings=SimpleNamespace(trainable="last:1"), training=SimpleNamespace(lora=Lora()))
    assert "leave trainable = last:1 out" in str(Foreign.check_lora(block))


def test_weights_that_have_adapters_are_refused_with_the_command_that_merges_them() -> None:
    sizes = {name: torch.Size([2, 2]) for name in ("a.base_layer.weight", "a.lora_A.default.weight")}
    assert "drcli export" in str(_compared(sizes, {"a.weight": torch.Size([2, 2])}, (), exact=True))


def test_without_the_package_the_message_names_the_extra(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"modalities\.audio\.lora.*pip install 'drcli\[lora\]'"):
        make({})
    with pytest.raises(UsageError, match="needs the package peft"):
        adapt(nn.Linear(2, 2), Lora())
