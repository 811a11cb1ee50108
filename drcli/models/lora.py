"""Low-rank adapters (LoRA; Hu et al. 2022, arXiv 2106.09685) on layers of an encoder, by the package peft."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

from torch import Tensor, nn

from drcli.errors import UsageError
from drcli.recipe.training import Lora

MISSING = "needs the package peft, which is not installed; run pip install 'drcli[lora]'"
_NAME = "default"


def problem_of(encoder: nn.Module | None, settings: Lora) -> str | None:
    """Return why adapters cannot be put on an encoder, as a clause; None where they can, or that is not known.

    Args:
        encoder: its layers are looked at; None: it is not known yet.
        settings: the block `lora`.
    """
    if importlib.util.find_spec("peft") is None:
        return MISSING
    if encoder is None:
        return None
    linear = linear_layers(encoder)
    if settings.targets is None:
        return None if linear else "the encoder has no linear layer; name its layers in targets"
    names = [name for name, _ in encoder.named_modules()]
    for target in settings.targets:
        found = [name for name in names if name == target or name.endswith(f".{target}")]
        if not found:
            return f"no layer's name is, or ends in, {target}; layers: {', '.join(linear[:12])}"
        if any(isinstance(_parent(encoder, name), nn.MultiheadAttention) for name in found):
            return f"{target} is inside nn.MultiheadAttention, which does not call it; leave it out"
    return None


def linear_layers(encoder: nn.Module) -> list[str]:
    """Return the names of an encoder's linear layers, without those that nn.MultiheadAttention reads by itself."""
    found = [name for name, layer in encoder.named_modules() if isinstance(layer, nn.Linear)]
    return [name for name in found if not isinstance(_parent(encoder, name), nn.MultiheadAttention)]


def _parent(encoder: nn.Module, name: str) -> nn.Module:
    return encoder.get_submodule(name.rpartition(".")[0])


def adapt(encoder: nn.Module, settings: Lora) -> None:
    """Put adapters on layers of an encoder, in place, and freeze everything else of it.

    With B = 0, the encoder computes at first what it computed before. A is drawn from torch's global generator.

    Raises:
        UsageError: peft is not installed, or the encoder has no such layers.
    """
    problem = problem_of(encoder, settings)
    if problem:
        raise UsageError(f"lora: {type(encoder).__name__}: {problem}")
    peft: Any = importlib.import_module("peft")
    targets = list(settings.targets or linear_layers(encoder))
    config = peft.LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets
    )
    try:
        peft.inject_adapter_in_model(config, encoder, adapter_name=_NAME)
    except ValueError as error:  # a kind of layer that peft does not know
        raise UsageError(f"lora: {type(encoder).__name__}: {error}") from error
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("lora_" in name)
    for layer in encoder.modules():
        if isinstance(layer, nn.TransformerEncoderLayer):
            layer.activation_relu_or_gelu = 0  # no fast path, which would read the weights without their adapters


def is_adapted(layer: nn.Module) -> TypeGuard[Any]:
    """Whether a layer is one of peft's around another."""
    return isinstance(getattr(layer, "base_layer", None), nn.Module)


@contextmanager
def without_adapters(encoder: nn.Module) -> Iterator[None]:
    """Within it, an encoder has the layers that it had before adapters were put on them, and their names."""
    found = [(name, layer) for name, layer in encoder.named_modules() if is_adapted(layer)]
    places = [(_parent(encoder, name), name.rpartition(".")[2], layer) for name, layer in found]
    for parent, child, layer in places:
        setattr(parent, child, layer.base_layer)
    try:
        yield
    finally:
        for parent, child, layer in places:
            setattr(parent, child, layer)


def merged(encoder: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of an encoder without adapters that computes the same: W + (alpha / rank) B A."""
    if not any(is_adapted(layer) for layer in encoder.modules()):
        return encoder.state_dict()
    alone = copy.deepcopy(encoder)
    for layer in alone.modules():
        if is_adapted(layer):
            layer.merge()
    with without_adapters(alone):
        return alone.state_dict()
