"""Gradient checkpointing: the same outputs, gradients, buffers and random numbers, with less kept."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.training import bits, trained, weights
from torch import Tensor, nn

from drcli.errors import RecipeError, UsageError
from drcli.models.presence import normalised_by_the_past
from drcli.models.recompute import recompute
from drcli.names import BACKBONES
from drcli.recipe.load import recipe_from_dict

ENCODERS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("resnet_small", {"width": 4}, (1, 8, 8)),
    ("vit", {"layers": 2, "dim": 8, "heads": 2, "dropout": 0.3}, (1, 8, 8)),
    ("transformer", {"layers": 2, "dim": 8, "heads": 2, "feedforward": 8, "dropout": 0.3}, (4, 5)),
    ("mlp", {"hidden": (8, 8), "dropout": 0.3, "normalisation": "batch"}, (5,)),
]
every_encoder = pytest.mark.parametrize(("name", "settings", "shape"), ENCODERS, ids=[name for name, *_ in ENCODERS])


def pair(name: str, settings: dict[str, Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """An encoder, and one like it whose layers are computed again."""
    torch.manual_seed(0)
    backbone = BACKBONES.load(name)
    plain = backbone(backbone.Settings(**settings), shape)
    again = copy.deepcopy(plain)
    recompute(again)
    return plain, again


def kept(encoder: nn.Module, x: Tensor) -> tuple[Tensor, int]:
    """The features of a batch, and the bytes that are kept for the backward pass."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        held[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return encoder(x), sum(held.values())


@every_encoder
def test_gradients_and_buffers_are_the_same(name: str, settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    found = []
    for encoder in pair(name, settings, shape):
        torch.manual_seed(1)
        x = torch.randn(6, *shape)
        features, held = kept(encoder, x)
        features.square().sum().backward()
        gradients = bits({n: p.grad for n, p in encoder.named_parameters()})
        found.append(((bits(features), gradients, bits(encoder.state_dict()), bits(torch.rand(3))), held))
    (plain, all_kept), (again, some_kept) = found
    assert again == plain
    assert some_kept < all_kept


def test_two_backward_passes_through_one_forward_pass_are_the_same() -> None:
    found = []
    for encoder in pair(*ENCODERS[0]):
        features = encoder(torch.ones(2, 1, 8, 8).cumsum(dim=3))
        weight = encoder.stem[0].weight
        grads = [torch.autograd.grad(features[:, i].sum(), weight, retain_graph=True) for i in (0, 1)]
        found.append((bits(grads), bits(encoder.state_dict())))
    assert found[0] == found[1]


def test_a_layer_is_computed_again_in_the_mode_in_which_it_was() -> None:
    """A single row is normalised by the running statistics; in the backward pass the layers are back in training."""
    found = []
    for encoder in pair(*ENCODERS[0]):
        with normalised_by_the_past(encoder, no_grad=False):
            features = encoder(torch.ones(1, 1, 8, 8).cumsum(dim=3))
        features.sum().backward()
        found.append(bits([p.grad for p in encoder.parameters()]))
        assert all(layer.training for layer in encoder.modules())
    assert found[0] == found[1]


def test_a_copy_computes_with_its_own_weights() -> None:
    _, encoder = pair("mlp", {"hidden": (8, 8)}, (5,))
    alone = copy.deepcopy(encoder)
    with torch.no_grad():
        alone.layers[1][0].weight.zero_()
        alone.layers[1][0].bias.fill_(2.0)
    assert torch.equal(alone(torch.ones(1, 5)), torch.full((1, 8), 2.0))
    assert not torch.equal(encoder(torch.ones(1, 5)), torch.full((1, 8), 2.0))


@pytest.mark.slow
def test_the_compiler_is_not_imported() -> None:
    program = """
import sys, torch
from drcli.models.recompute import recompute
encoder = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
recompute(encoder)
encoder(torch.ones(1, 2)).sum().backward()
assert encoder[0].weight.grad is not None
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_an_encoder_without_blocks_is_refused() -> None:
    with pytest.raises(UsageError, match="checkpointing: Linear has no blocks"):
        recompute(nn.Linear(2, 2))


def test_a_run_ends_with_the_weights_of_one_without(toy_dict: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = []
    for checkpointing in (False, True):
        encoder = {"backbone": "mlp", "hidden": [8, 8], "normalisation": "batch", "checkpointing": checkpointing}
        blocks = {"modalities": dict.fromkeys(("audio", "visual"), encoder)}
        trainer = trained(
            recipe_from_dict({**toy_dict(), **blocks}, where="the test's recipe"), tmp_path / str(checkpointing)
        )
        found.append(bits(weights(trainer)))
    assert found[0] == found[1]


def test_compiled_models_are_refused(
    toy_dict: Callable[..., dict[str, Any]],
) -> None:
    training = {**toy_dict()["training"], "compile": "default"}
    blocks = {"modalities": {"audio": {"backbone": "tiny", "checkpointing": True}}}
    with pytest.raises(RecipeError, match=r"modalities\.audio\.checkpointing.*torch\.compile decides"):
        recipe_from_dict({**toy_dict(), **blocks, "training": training}, where="the test's recipe")
