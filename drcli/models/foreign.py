"""Encoders of other packages: how they are imported and found, which part of them is trained, and how frames are read.

What they need is optional, and imported when a recipe names it. Nothing is downloaded: models are files in a folder, or
in the cache of the user.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from drcli.amounts import counted
from drcli.errors import DataError, UsageError
from drcli.models.backbone import Backbone
from drcli.reading import one_line

Trainable = Annotated[
    str,
    Field(
        pattern=r"^(all|none|last:[1-9]\d{0,3})$",
        description="which part is trained: all, none, or last:N, the last N layers and what follows them; the rest "
        "keeps its weights, also in re-learning, and runs as in evaluation",
    ),
]

Options = dict[str, Any]


def package(name: str) -> Any:
    """Return an optional package, which has an extra of its name.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"backbone {name}: {name} is not installed; run pip install 'drcli[{name}]'") from error


class Foreign(Backbone):
    """A model of another package as an encoder.

    A class that derives from it sets `model`, then calls `finish`.

    Attributes:
        model: what the package made.
    """

    model: nn.Module

    @classmethod
    def check_lora(cls, block: Any) -> str | None:
        """Return why adapters cannot be put on the encoder; see `Backbone.check_lora`."""
        if getattr(block.settings, "trainable", "all") != "all":
            asked = block.settings.trainable
            return f"adapters are trained in every layer, and nothing else is; leave trainable = {asked} out"
        return super().check_lora(block)

    def finish(self, trainable: str, layers: Sequence[nn.Module], example: Tensor, width: int | None = None) -> None:
        """Freeze what is not trained, and find the number of features by running a made-up sample.

        Args:
            trainable: as `Trainable` says.
            layers: of the model, in their order.
            example: inputs (1, ...).
            width: the number of features where it is known; taken on the device "meta", where not every model runs.

        Raises:
            UsageError: there are fewer layers, or the model does not run on such a sample.
        """
        self._frozen: frozenset[str] = frozenset()
        if trainable != "all":
            self._freeze(trainable, layers)
        self.width = width if width is not None and example.device.type == "meta" else self._width(example)
        self.train()

    def _freeze(self, trainable: str, layers: Sequence[nn.Module]) -> None:
        count = 0 if trainable == "none" else int(trainable.partition(":")[2])
        if count > len(layers):
            raise UsageError(
                f"trainable = {trainable}: the model has {counted(len(layers), 'layer')}; name at most as many, or all"
            )
        first = None if count == 0 else next(layers[-count].parameters())
        names = []
        for name, parameter in self.model.named_parameters():  # in the order in which they were made
            if parameter is first:
                break
            names.append(name)
        self._frozen = frozenset(names)
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether the parameters get gradients; what is frozen gets none."""
        super().requires_grad_(requires_grad)
        for name, parameter in self.model.named_parameters():
            if name in self._frozen:
                parameter.requires_grad_(False)
        return self

    def _is_frozen(self, name: str, module: nn.Module) -> bool:
        """Whether a part of the model has parameters, and all of them are frozen."""
        names = [".".join(filter(None, (name, inner))) for inner, _ in module.named_parameters()]
        return bool(names) and self._frozen.issuperset(names)

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights as the package saves them, or those of this encoder as drcli saves them.

        Raises:
            DataError: they are of another model.
        """
        if weights.keys() == self.state_dict().keys():
            super().load_pretrained(weights)
            return
        try:
            source, problem = self.with_weights(weights)
        except Exception as error:
            raise DataError(f"no weights of {getattr(self.settings, 'model', '')} ({one_line(error)})") from error
        if problem:
            raise DataError(problem)
        self.model.load_state_dict(source.state_dict())

    @abstractmethod
    def with_weights(self, weights: Mapping[str, Tensor]) -> tuple[nn.Module, str]:
        """Return such a model with weights, adapted to it as the package does it, and what they lack; "" for nothing.

        Whatever it raises says that they are of another model.

        Args:
            weights: as the package saves them.
        """

    def _width(self, example: Tensor) -> int:
        self.eval()
        try:
            with torch.no_grad():
                return int(self(example).shape[1])
        except Exception as error:
            raise self.refused(example.shape[1:], error) from error

    def refused(self, shape: Sequence[int], error: Exception) -> UsageError:
        """Return the error of a model that cannot be made for samples of a shape."""
        name = getattr(self.settings, "model", type(self).__name__)
        return UsageError(
            f"model {name} of backbone {type(self).__name__.lower()} does not take samples {tuple(shape)} "
            f"({type(error).__name__}: {one_line(error)}); choose another model, or other sizes in its settings"
        )

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays in evaluation mode: no dropout, no statistics that move."""
        super().train(mode)
        for name, module in self.model.named_modules() if self._frozen else ():
            if self._is_frozen(name, module):
                module.eval()
        return self

    def parts(self) -> Iterator[tuple[str, int, int]]:
        """Yield the model's parts by name, with the numbers of their parameters and of those that are frozen."""
        for name, module in self.model.named_children():
            sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
            if sizes:
                yield name, sum(n for n, _ in sizes), sum(n for n, is_trained in sizes if not is_trained)


def over_frames(model: Any, x: Tensor) -> Tensor:
    """Return what a model maps pictures to (B, D), of clips (B, T, C, H, W) the mean over the frames."""
    if x.dim() == 4:
        found: Tensor = model(x)
        return found
    features: Tensor = model(x.flatten(0, 1))
    averaged: Tensor = features.unflatten(0, x.shape[:2]).mean(dim=1)
    return averaged
