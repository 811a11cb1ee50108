"""A class of the user's own as an encoder, named by a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from drcli.errors import DataError, UsageError
from drcli.models.backbone import Backbone
from drcli.models.foreign import Options
from drcli.reading import one_line

CONTRACT = "see `backbone: module` in docs/encoders.md"
TOLERANCE = 1e-3


class Module(Backbone):
    """An `nn.Module` that maps a batch to one vector a sample.

    The class is called as `Class(shape=(...), **options)`, with `vocabulary=...` too where samples are token ids; the
    module as `module(x)` with x (B, *shape), or as `module(x, lengths)` where its `forward` has a second argument
    `lengths`. It returns features (B, D), each row from its own sample alone in evaluation mode. Two made-up samples
    are run when it is built, to check this and to find D.

    Args:
        settings: where the class is, and its options.
        shape: of one sample.
        vocabulary: number of token ids; 0 where samples are none.
    """

    class Settings(Backbone.Settings):
        """The recipe block of `module`."""

        path: str = Field(
            pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$",
            description="module and class, such as my_package.encoders:Audio; Python must find the module",
        )
        options: Options = Field({}, description="keyword arguments of the class")

    settings: Settings

    ranks: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)

    takes_lengths: ClassVar[bool] = True

    def __init__(self, settings: Settings, shape: Sequence[int], vocabulary: int = 0) -> None:
        super().__init__(settings, shape)
        kind = load_class(settings.path)
        given = {"vocabulary": vocabulary} if vocabulary else {}
        try:
            self.model = kind(shape=tuple(shape), **given, **settings.options)
        except Exception as error:
            raise self._refused(f"cannot be made for samples {tuple(shape)} ({_said(error)})") from error
        self._with_lengths = "lengths" in inspect.signature(self.model.forward).parameters
        self.width = self._tried(_made_up(shape, vocabulary))
        self.train()

    @classmethod
    def for_input(cls, settings: Any, shape: Sequence[int], vocabulary: int = 0) -> Self:
        """Build for the samples of a modality, token ids included; see `Backbone.for_input`."""
        return cls(settings, shape, vocabulary)

    @classmethod
    def check(cls, settings: Any) -> Iterator[tuple[str, str]]:
        """Yield that there is no such class."""
        try:
            load_class(settings.path)
        except UsageError as error:
            yield "path", str(error)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (B, *shape), of which steps (B,) are valid, to features (B, width)."""
        found: Tensor = self.model(x, lengths) if self._with_lengths else self.model(x)
        return found

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of this encoder as drcli saves them, or those of the class by its own names.

        Raises:
            DataError: some of its tensors are not among them.
        """
        own = self.state_dict()
        given = dict(weights) if weights.keys() == own.keys() else {f"model.{n}": t for n, t in weights.items()}
        absent = [name for name, tensor in own.items() if name not in given or given[name].shape != tensor.shape]
        if absent:
            names = ", ".join(name.removeprefix("model.") for name in absent[:3])
            raise DataError(f"{names} of {len(own)} tensors of {self.settings.path} are not among the weights")
        super().load_pretrained(given)

    def _tried(self, x: Tensor) -> int:
        """Run two samples, and one of them alone, in evaluation mode; return the number of features."""
        self.eval()
        has_steps = x.dim() == 3 or not x.is_floating_point()
        lengths = torch.tensor([x.shape[1], 1], device=x.device) if has_steps else None
        try:
            with torch.no_grad():
                both = self(x, lengths)
                alone = self(x[:1], None if lengths is None else lengths[:1])
        except Exception as error:
            raise self._refused(f"does not run on a batch {tuple(x.shape)} ({_said(error)})") from error
        if not isinstance(both, Tensor) or both.dim() != 2 or len(both) != 2 or not both.is_floating_point():
            shown = f"{both.dtype} {tuple(both.shape)}" if isinstance(both, Tensor) else type(both).__name__
            raise self._refused(f"returns {shown} of a batch of 2; it must return features (2, D) of floats")
        if both.device.type != "meta":
            self._check_values(both, alone)
        return int(both.shape[1])

    def _check_values(self, both: Tensor, alone: Tensor) -> None:
        if not bool(both.isfinite().all()):
            raise self._refused("returns features that are not finite")
        if not torch.allclose(both[:1], alone, rtol=TOLERANCE, atol=TOLERANCE):
            raise self._refused(
                "gives a sample other features in another batch, in evaluation mode; each row must stand alone"
            )

    def _refused(self, what: str) -> UsageError:
        return UsageError(f"backbone module: {self.settings.path} {what}; {CONTRACT}")


def load_class(path: str) -> type[nn.Module]:
    """Import a class "module:Class".

    Raises:
        UsageError: there is none, or it is no `nn.Module`.
    """
    name, _, attribute = path.partition(":")
    try:
        found = getattr(import_module(name), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{path} is not found ({one_line(error)}); install its package, or put its folder on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise UsageError(f"module {name} has no {attribute} ({one_line(error)})") from error
    except Exception as error:
        raise UsageError(f"module {name} does not import ({_said(error)})") from error
    if not isinstance(found, type) or not issubclass(found, nn.Module):
        raise UsageError(f"{path} is no class that derives from torch.nn.Module; {CONTRACT}")
    return found


def _made_up(shape: Sequence[int], vocabulary: int) -> Tensor:
    """Two samples that differ, of no generator."""
    count = 2 * int(torch.Size(shape).numel())
    if vocabulary:
        return (torch.arange(count) % vocabulary).reshape(2, *shape)
    return torch.linspace(-1, 1, count).reshape(2, *shape)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
