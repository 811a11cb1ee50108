"""Picture models of the package timm as encoders."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from drcli.errors import DataError
from drcli.model_files import find_file
from drcli.models.foreign import Foreign, Options, Trainable, over_frames, package
from drcli.models.weight_files import Weights, read

FILES = ("model.safetensors", "pytorch_model.bin")


class Timm(Foreign):
    """A model of timm without its classifier: pooled features of pictures of any number of channels.

    The frames of a clip are run like pictures, and their features averaged. Models with a fixed size of pictures are
    made for that of the samples. Pre-trained weights are adapted as timm does it: first convolutions to the number of
    channels, positions to the size of the pictures.

    Args:
        settings: the model's name, its weights, and arguments of `timm.create_model`.
        shape: (C, H, W) or (T, C, H, W).
    """

    class Settings(Foreign.Settings):
        """The recipe block of `timm`."""

        model: str = Field(
            pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_.-]+)?$",
            description="name of a model as timm lists it, such as vit_small_patch16_224 or resnet50.a1_in1k",
        )
        pretrained: bool | Annotated[str, Field(min_length=1)] = Field(
            False,
            description="pre-trained weights: a file (.safetensors, or a state_dict of torch.save); true: timm's, from "
            "the user's cache; false: random initialisation",
        )
        trainable: Trainable = "all"
        options: Options = Field(
            {}, description="further arguments of timm.create_model, such as {drop_path_rate: 0.1}"
        )

    settings: Settings

    ranks: ClassVar[tuple[int, ...]] = (3, 4)

    def __init__(self, settings: Settings, shape: Sequence[int]) -> None:
        super().__init__(settings, shape)
        self._picture = tuple(shape[-3:])
        try:
            self.model = self._created()
        except Exception as error:
            raise self.refused(shape, error) from error
        self.finish(settings.trainable, layers_of(self.model), torch.zeros(1, *shape))

    def _created(self, tensors: Mapping[str, Tensor] | None = None) -> nn.Module:
        """Return a new model, with the weights of a state dict adapted to it if there is one."""
        timm, name = package("timm"), self.settings.model
        channels, *size = self._picture
        sized = {"img_size": tuple(size)} if timm.get_pretrained_cfg(name).fixed_input_size else {}
        given = {} if tensors is None else {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(tensors)}}
        model: nn.Module = timm.create_model(
            name, **{**sized, **self.settings.options}, **given, in_chans=channels, num_classes=0
        )
        return model

    @classmethod
    def check(cls, settings: Any) -> Iterator[tuple[str, str]]:
        """Yield that timm has no model of the name."""
        timm = package("timm")
        if timm.is_model(settings.model):
            return
        close = difflib.get_close_matches(settings.model, timm.list_models(), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        yield "model", f"timm {timm.__version__} has no model of this name{hint}"

    @classmethod
    def own_weights(cls, settings: Any) -> Weights | None:
        """Return the weights that `pretrained` asks for; see `Backbone.own_weights`."""
        if settings.pretrained is False:
            return None
        if settings.pretrained is not True:
            return read(settings.pretrained)
        found = package("timm").get_pretrained_cfg(settings.model).hf_hub_id
        if not found:
            raise DataError(f"timm has no weights of {settings.model}; give a file: pretrained=FILE")
        return read(str(find_file(found, FILES)))

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) or (B, T, C, H, W) to features (B, width)."""
        return over_frames(self.model, x)

    def with_weights(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, str]:
        """Return a model with weights, and what they lack: timm does not say so, and leaves initial values there."""
        source, without = (self._seeded(tensors) for tensors in (weights, None))
        own = ((name, tensor) for name, tensor in source.named_parameters() if tensor.dim() > 1)
        absent = [name for name, tensor in own if torch.equal(without.get_parameter(name), tensor)]
        named, count = ", ".join(absent[:3]), len(self.model.state_dict())
        return source, f"the weights lack {named} of {count} tensors of {self.settings.model}" if absent else ""

    def _seeded(self, tensors: Mapping[str, Tensor] | None) -> nn.Module:
        """Return a new model whose initial values are the same at every call; no generator is left otherwise."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self._created(tensors)


def layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of a model of timm, from its input to its output.

    They are the members of its sequences whose members are of one class, and no single layers themselves.
    """
    found: list[nn.Module] = []
    for module in model.modules():
        members = list(module.children())
        is_sequence = isinstance(module, nn.Sequential | nn.ModuleList) and len({type(m) for m in members}) == 1
        if is_sequence and any(True for _ in members[0].children()):
            found += members
    return [module for module in found if not any(other is not module and _holds(module, other) for other in found)]


def _holds(module: nn.Module, other: nn.Module) -> bool:
    return any(inner is other for inner in module.modules())
