"""Fusion: from the modalities' inputs and encoders to logits; late fusion by default.

A late fusion maps features to logits. An intermediate one also says how the encoders run, because it
exchanges what they know between their stages; what it asks of them is at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional

from drcli.bases import Settings as BaseSettings
from drcli.bases import refuse_misspelt
from drcli.errors import UsageError
from drcli.models.backbone import Backbone, Hidden
from drcli.models.presence import ALL_PRESENT

Features = Mapping[str, Tensor]
Encoders = Mapping[str, Backbone]

Decomposition = Literal["slice", "head", "zero_others"]
"""How logits are split by modality; see `Fusion.unimodal_logits`."""


@dataclass(frozen=True)
class Outputs:
    """What a forward pass gives.

    Attributes:
        features: representations of the encoders, {m: (B, D_m)}.
        logits: fused logits (B, C).
    """

    features: dict[str, Tensor]
    logits: Tensor


class Fusion(nn.Module):
    """Base of the fusions: features {m: (B, D_m)} -> logits (B, C).

    Args:
        settings: the recipe's `fusion` block, without its name.
        widths: D_m by modality, in the recipe's order.
        num_classes: C.
    """

    class Settings(BaseSettings):
        """The recipe block of this fusion."""

    num_modalities: ClassVar[tuple[int, int | None]] = (1, None)
    """Fewest and most modalities that it takes; None: any number."""

    provides: ClassVar[frozenset[str]] = frozenset()
    """What methods may require of it beyond logits, such as "gates"."""

    graphs: ClassVar[bool] = True
    """Whether CUDA graphs may replay it: its forward pass replaces no tensor that the next one reads."""

    leaves_out: ClassVar[bool] = False
    """Whether a modality that a row lacks is left out of its logits; if not, its features are 0, or a stand-in."""

    present: Mapping[str, Tensor] = ALL_PRESENT
    """Which rows of the batch at work have a modality, {m: (B,)}, bool, on the CPU; of one left out, every row has."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        refuse_misspelt(cls, Fusion)

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.widths = dict(widths)
        self.num_classes = num_classes

    @classmethod
    def check(cls, settings: BaseModel, encoders: Encoders) -> Iterable[tuple[str, str]]:
        """Yield what does not fit: a key of the recipe, such as "fusion.stages", and why, as a clause.

        It is called before any data is read, with encoders that have no weights (`Backbone.sketch`), and again
        when the model is built.
        """
        return ()

    @classmethod
    def over(cls, settings: BaseModel, encoders: Encoders, num_classes: int) -> Self:
        """Build the fusion over encoders.

        Raises:
            UsageError: it cannot fuse these encoders, as `check` says.
        """
        for key, message in cls.check(settings, encoders):
            raise UsageError(f"{key}: {message}")
        return cls.build(settings, encoders, num_classes)

    @classmethod
    def build(cls, settings: BaseModel, encoders: Encoders, num_classes: int) -> Self:
        """Build the fusion over encoders that fit; an intermediate fusion looks at their stages here."""
        return cls(settings, {m: encoder.width for m, encoder in encoders.items()}, num_classes)

    @classmethod
    def offers(cls, settings: BaseModel) -> tuple[Decomposition, ...]:
        """Which unimodal logits mean something with these settings."""
        return ("zero_others",)

    def encode(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the encoders, each alone unless the fusion is an intermediate one; features {m: (B, D_m)}."""
        return {m: encode_alone(encoder, inputs[m], lengths.get(m)) for m, encoder in encoders.items()}

    def run(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> Outputs:
        """Run encoders and fusion."""
        features = self.encode(encoders, inputs, lengths)
        return Outputs(features, self(features))

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        raise AssertionError(f"{type(self).__name__} does not define forward")

    @contextmanager
    def given(self, present: Mapping[str, Tensor]) -> Iterator[None]:
        """Within it, rows of the batch lack some modalities; see `present`."""
        self.present = present
        try:
            yield
        finally:
            del self.present  # what the class says holds again

    def unimodal_logits(self, features: Features, how: Decomposition) -> dict[str, Tensor]:
        """Return logits of each modality alone, {m: (B, C)}.

        Args:
            features: {m: (B, D_m)}.
            how: one of `offers`. "slice": the modality's term of the logits; the terms add up to the
                fused logits, which only additive fusions allow. "head": the fusion's own head of the
                modality. "zero_others": the fused logits with the other features set to 0.
        """
        assert how == "zero_others"
        return {
            m: self({n: features[n] if n == m else torch.zeros_like(features[n]) for n in self.widths})
            for m in self.widths
        }


def encode_alone(encoder: Backbone, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Run one encoder; it gets lengths only if it takes them."""
    features: Tensor = encoder(x, lengths) if encoder.takes_lengths else encoder(x)
    return features


class Additive(Fusion):
    """Base of the fusions whose logits are a sum over modalities."""

    @classmethod
    def offers(cls, settings: BaseModel) -> tuple[Decomposition, ...]:
        """The exact terms, and the fused logits without the others."""
        return ("slice", "zero_others")

    def unimodal_logits(self, features: Features, how: Decomposition) -> dict[str, Tensor]:
        """Return logits of each modality alone, {m: (B, C)}."""
        return self.terms(features) if how == "slice" else super().unimodal_logits(features, how)

    def terms(self, features: Features) -> dict[str, Tensor]:
        """Return each modality's term of the logits, {m: (B, C)}; they add up to the fused logits."""
        raise AssertionError(f"{type(self).__name__} does not define terms")

    def readers(self) -> dict[str, tuple[Tensor, slice]]:
        """Return by modality the weight (C, D) that reads its features, and which of the D columns do."""
        raise AssertionError(f"{type(self).__name__} does not define readers")


class Concat(Additive):
    """z = W [h_1; ...; h_M] + b, one linear layer on the concatenation."""

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.linear = nn.Linear(sum(widths.values()), num_classes)

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        concatenated = torch.cat([features[m] for m in self.widths], dim=1)
        logits: Tensor = self.linear(concatenated)
        return logits

    def terms(self, features: Features) -> dict[str, Tensor]:
        """Return the sliced logits z_m = W[:, slice_m] h_m + b / M, {m: (B, C)} (Peng et al. 2022)."""
        slices = torch.split(self.linear.weight, list(self.widths.values()), dim=1)
        bias = self.linear.bias / len(self.widths)
        return {m: functional.linear(features[m], weight, bias) for m, weight in zip(self.widths, slices, strict=True)}

    def readers(self) -> dict[str, tuple[Tensor, slice]]:
        """Return the weight, and the columns of each modality in the order of the concatenation."""
        ends = list(accumulate(self.widths.values()))
        return {
            m: (self.linear.weight, slice(end - self.widths[m], end)) for m, end in zip(self.widths, ends, strict=True)
        }


class Sum(Additive):
    """z = sum over m of (W_m h_m + b_m), one linear layer per modality."""

    def __init__(self, settings: BaseModel, widths: Mapping[str, int], num_classes: int) -> None:
        super().__init__(settings, widths, num_classes)
        self.linears = nn.ModuleDict({m: nn.Linear(width, num_classes) for m, width in widths.items()})

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        return torch.stack(list(self.terms(features).values())).sum(dim=0)

    def terms(self, features: Features) -> dict[str, Tensor]:
        """Return z_m = W_m h_m + b_m, {m: (B, C)}."""
        return {m: linear(features[m]) for m, linear in self.linears.items()}

    def readers(self) -> dict[str, tuple[Tensor, slice]]:
        """Return the weight of each modality's linear layer, and all of its columns."""
        return {m: (cast("nn.Linear", linear).weight, slice(None)) for m, linear in self.linears.items()}


class Staged(Fusion):
    """Base of the intermediate fusions whose layers fit the channels of the encoders' stages.

    Args:
        settings: the recipe's `fusion` block, without its name.
        widths: D_m by modality, in the recipe's order.
        num_classes: C.
        channels: channels after each stage by modality, equally many.
    """

    def __init__(
        self, settings: BaseModel, widths: Mapping[str, int], num_classes: int, channels: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(settings, widths, num_classes)
        self.num_stages = len(next(iter(channels.values())))

    @classmethod
    def build(cls, settings: BaseModel, encoders: Encoders, num_classes: int) -> Self:
        """Build layers that fit the encoders' stages."""
        assert isinstance(settings, cls.Settings)
        widths = {m: encoder.width for m, encoder in encoders.items()}
        return cls(settings, widths, num_classes, {m: encoder.channels for m, encoder in encoders.items()})


def num_stages(encoders: Encoders) -> int:
    """Return how many stages the encoders have, where `unequal_stages` has found nothing."""
    return len(next(iter(encoders.values())).channels)


def unequal_stages(fusion: str, encoders: Encoders) -> Iterator[tuple[str, str]]:
    """Yield the backbones without stages, or else the first whose number of stages is not that of the others.

    Args:
        fusion: name of the fusion that works between stages.
        encoders: by modality.
    """
    counts = {m: len(encoder.channels) for m, encoder in encoders.items()}
    if 0 in counts.values():
        for m in (m for m, count in counts.items() if count == 0):
            yield backbone_key(m), f"has no stages, between which fusion {fusion} works; use another, or fusion=concat"
        return
    first, *others = counts
    for m in (m for m in others if counts[m] != counts[first]):
        yield (
            backbone_key(m),
            f"has {counts[m]} stages and that of {first} has {counts[first]}: fusion {fusion} needs equal numbers",
        )
        return


def backbone_key(modality: str) -> str:
    """Return the key of a recipe that names a modality's backbone."""
    return f"modalities.{modality}.backbone"


def begin(encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Hidden]:
    """Return what each encoder's first stage takes."""
    return {m: encoder.begin(inputs[m], lengths.get(m)) for m, encoder in encoders.items()}


def end(encoders: Encoders, hidden: Mapping[str, Hidden]) -> dict[str, Tensor]:
    """Return the features {m: (B, D_m)} after each encoder's last stage."""
    return {m: encoder.end(hidden[m]) for m, encoder in encoders.items()}
