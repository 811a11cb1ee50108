"""What an encoder is: a module from one modality's input to a vector per sample, in stages.

What flows between stages is maps of pictures, or tokens of sequences. Intermediate fusions read and change them
without knowing which of the two it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from drcli.bases import Settings as BaseSettings
from drcli.bases import refuse_misspelt
from drcli.errors import DataError, UsageError

if TYPE_CHECKING:
    from drcli.models.weight_files import Weights

_SHAPES: Sequence[Mapping[int, tuple[int, ...]]] = (
    {1: (16,), 2: (8, 16), 3: (3, 32, 32), 4: (2, 3, 32, 32)},
    {1: (17,), 2: (9, 17), 3: (5, 40, 48), 4: (3, 5, 40, 48)},
)
"""Shapes of made-up samples, by rank; those of the second line differ in every size."""

_VOCABULARIES = (64, 65)
"""Numbers of made-up token ids."""

_SKETCHES: dict[tuple[type, str], Any] = {}


def pool(maps: Tensor, frames: int) -> Tensor:
    """Average (B * T, D, H, W) over space and frames to (B, D)."""
    pooled = maps.mean(dim=(2, 3))
    return pooled.reshape(-1, frames, pooled.shape[1]).mean(dim=1) if frames > 1 else pooled


@dataclass(frozen=True)
class Maps:
    """Feature maps, the frames of a clip folded into the batch.

    Attributes:
        values: (B * T, C, H, W).
        frames: T.
    """

    values: Tensor
    frames: int = 1

    def mean(self) -> Tensor:
        """Return the average over space and frames, (B, C)."""
        return pool(self.values, self.frames)

    def scaled(self, gate: Tensor) -> Self:
        """Return the maps with each channel of each clip times its gate (B, C)."""
        gate = gate.repeat_interleave(self.frames, dim=0)[:, :, None, None]
        return replace(self, values=self.values * gate)

    def over_frames(self) -> Tensor:
        """Return the maps averaged over frames, (B, C, H, W)."""
        return self.values.reshape(-1, self.frames, *self.values.shape[1:]).mean(dim=1)


@dataclass(frozen=True)
class Tokens:
    """A sequence of vectors.

    Attributes:
        values: (B, L, D).
        padding: (B, L), true where a step is padding; None where all are valid.
    """

    values: Tensor
    padding: Tensor | None = None

    def lengths(self) -> Tensor:
        """Return the number of valid steps, (B,)."""
        batch, steps = self.values.shape[:2]
        if self.padding is None:
            return torch.full((batch,), steps, device=self.values.device)
        return steps - self.padding.sum(dim=1)

    def mean(self) -> Tensor:
        """Return the average over the valid steps, (B, D); 0 where there is none."""
        if self.padding is None:
            return self.values.mean(dim=1)
        valid = (~self.padding)[:, :, None].to(self.values.dtype)
        return (self.values * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)

    def scaled(self, gate: Tensor) -> Self:
        """Return the sequence with each channel of each sample times its gate (B, D)."""
        return replace(self, values=self.values * gate[:, None, :])


Hidden = Maps | Tokens


class Backbone(nn.Module):
    """An encoder of one modality; every backbone derives from it.

    It runs in stages, between which an intermediate fusion exchanges what the modalities know: `begin`,
    `stage` 0, 1, ..., `end`. A backbone that only defines `forward` serves the late fusions.

    Attributes:
        width: number of features D.
        channels: channels after each stage; empty where there are no stages.

    Args:
        settings: the modality's block of the recipe, without `backbone`.
        shape: shape of one input sample, without the batch dimension.
    """

    class Settings(BaseSettings):
        """The recipe block of this backbone."""

    ranks: ClassVar[tuple[int, ...]]
    """Ranks of input samples that this backbone takes."""

    takes_lengths: ClassVar[bool] = False
    """Whether `forward` takes the valid steps (B,) of sequences as its second argument."""

    takes_tokens: ClassVar[bool] = False
    """Whether samples are the token ids (L,) of texts, int64, and nothing else. `from_tokens` then builds it."""

    width: int

    channels: tuple[int, ...] = ()

    hidden: ClassVar[type[Hidden]] = Maps
    """What flows between its stages."""

    trunk: tuple[str, ...] = ()
    """Names of its blocks or stages in the order in which they run; one name: of the module whose children they are.

    Learning rates decay along them and gradient checkpointing computes them again. Empty: what `trunk_of` finds.
    """

    memory_format: torch.memory_format = torch.channels_last
    """How maps (B, C, H, W) lie in memory, for the backbones that have any."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_misspelt(cls, Backbone)

    def __init__(self, settings: BaseModel, shape: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        if len(shape) not in self.ranks:
            wanted = " or ".join(f"{rank}-d" for rank in self.ranks)
            raise UsageError(f"backbone {type(self).__name__} takes {wanted} samples, not shape {tuple(shape)}")

    @classmethod
    def for_input(cls, settings: Any, shape: Sequence[int], vocabulary: int = 0) -> Self:
        """Build for the samples of a modality.

        Args:
            settings: as `__init__` takes them.
            shape: of one sample.
            vocabulary: number of token ids where samples are these, (L,); else 0.

        Raises:
            UsageError: it takes no token ids, or nothing else, or no samples of this shape.
        """
        if vocabulary and not cls.takes_tokens:
            raise UsageError(
                f"backbone {cls.__name__} takes numbers, and the samples are token ids; name a backbone for text, such "
                "as token_transformer"
            )
        if cls.takes_tokens and not vocabulary:
            raise UsageError(f"backbone {cls.__name__} takes token ids, and samples {tuple(shape)} are none")
        return cls.from_tokens(settings, shape, vocabulary) if vocabulary else cls(settings, shape)

    @classmethod
    def from_tokens(cls, settings: Any, shape: Sequence[int], vocabulary: int) -> Self:
        """Build for token ids (L,) from 0 to `vocabulary` - 1; a backbone that takes them defines it."""
        raise AssertionError(f"{cls.__name__} says that it takes token ids, and has no from_tokens")

    @classmethod
    def example(cls, settings: Any, number: int = 0) -> Self:
        """Build for made-up samples; those of number 1 differ from those of number 0 in every size."""
        vocabulary = _VOCABULARIES[number] if cls.takes_tokens else 0
        return cls.for_input(settings, _SHAPES[number][cls.ranks[0]], vocabulary)

    @classmethod
    def sketch(cls, settings: BaseModel) -> Self | None:
        """Return the encoder without memory for its numbers, on the device "meta"; None if it cannot be had.

        It shows what a recipe alone says of an encoder: `width`, `channels`, `hidden`, the settings, and which
        kinds of parameters there are. The shape of its samples is made up.
        """
        key = cls, settings.model_dump_json()
        if key not in _SKETCHES:
            _SKETCHES[key] = cls._sketch(settings)
        found: Self | None = _SKETCHES[key]
        return found

    @classmethod
    def _sketch(cls, settings: BaseModel) -> Self | None:
        try:
            with torch.device("meta"), Undrawn():
                return cls.example(settings)
        except Exception:  # noqa: BLE001 - a backbone of another package may fail in any way; building it will tell
            return None

    @classmethod
    def check_weights(cls, block: Any) -> str | None:
        """Return why the pre-trained weights that a recipe names do not fit, without a download; None where they do.

        Args:
            block: the modality's `ModalityBlock`.
        """
        from drcli.models.weights import check_named

        return check_named(block)

    @classmethod
    def check(cls, settings: Any) -> Iterable[tuple[str, str]]:
        """Yield what of valid settings does not fit together or is not there, before any data is read.

        Each is a pair (key within the modality's block, message).
        """
        return ()

    @classmethod
    def own_weights(cls, settings: Any) -> Weights | None:
        """Return the pre-trained weights that its settings name, for `load_pretrained`; None where they name none.

        The key `weights` of a modality goes before them. Asked before data is read, too, so that what is missing is
        known then.

        Raises:
            DataError: they cannot be had.
        """
        return None

    @classmethod
    def doubt_tokenizer(cls, settings: Any, tokenizer: str) -> str | None:
        """Return why token ids are not those that the weights know; None where they are, or where nobody can say.

        Args:
            settings: of the backbone.
            tokenizer: what made the ids, by the name that `dataset.prepare.tokenizer` has.
        """
        return None

    @classmethod
    def check_lora(cls, block: Any) -> str | None:
        """Return why the adapters that a recipe asks for cannot be put on the encoder; None where they can.

        Args:
            block: the modality's `ModalityBlock`.
        """
        from drcli.models.weights import check_lora

        return check_lora(block)

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Hidden:
        """Map a batch (B, *shape), and the valid steps (B,) of sequences, to what the first stage takes."""
        raise AssertionError(f"{type(self).__name__} has no stages")

    def stage(self, index: int, hidden: Hidden) -> Hidden:
        """Run one stage, from 0; it returns `channels[index]` channels."""
        raise AssertionError(f"{type(self).__name__} has no stages")

    def end(self, hidden: Hidden) -> Tensor:
        """Map what the last stage returned to features (B, width)."""
        raise AssertionError(f"{type(self).__name__} has no stages")

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map a batch (B, *shape), and the valid steps (B,) of sequences or tokens, to features (B, width)."""
        hidden = self.begin(x, lengths)
        for index in range(len(self.channels)):
            hidden = self.stage(index, hidden)
        return self.end(hidden)

    def load_pretrained(self, weights: Mapping[str, Tensor]) -> None:
        """Take the tensors of a state dict that fit by name and shape; the others keep their initial values.

        A classifier is left out by its name, and a first convolution of another number of channels by
        its shape (Wei et al. 2024 leave flow's first convolution random).

        Raises:
            DataError: no more than a quarter of this encoder's tensors are among them.
        """
        own = self.state_dict()
        fitting = {name: tensor for name, tensor in weights.items() if name in own and own[name].shape == tensor.shape}
        if len(fitting) <= len(own) // 4:
            raise DataError(f"{len(fitting)} of {len(own)} tensors of {type(self).__name__} are among the weights")
        self.load_state_dict({**own, **fitting})


class Undrawn(TorchFunctionMode):
    """Leaves out normal draws, for which torch imports packages of seconds on the device "meta"."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(function, "__name__", "").endswith("normal_"):  # Tensor.normal_, and those of nn.init
            return args[0] if args else given["tensor"]
        if function is torch.randn:
            return torch.empty(*args, **given)
        return function(*args, **given)
