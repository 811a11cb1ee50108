"""MMTM (Joze, Shaban, Iuzzolino, Koishida; CVPR 2020, arXiv 1911.08670): gates that depend on every modality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import ClassVar, Literal, Protocol, cast

import torch
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from drcli.models.backbone import Hidden
from drcli.models.fusion import Decomposition, Encoders, Features, Staged, begin, end, num_stages, unequal_stages


class Gates(Protocol):
    """What a fusion that provides "gates" lets a method do (Wu et al. 2022)."""

    def curating(self, modality: str | None) -> AbstractContextManager[None]:
        """Within it, the gates of a modality are constants; None: of no modality."""

    def branch(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters that belong to one modality alone and not to its gates, such as its head."""

    def bypass(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters through which the other modalities reach this one."""


class Gate(nn.Module):
    """The gates of one modality, scale * sigmoid(W_m e + b_m), and their running average.

    The average over all batches seen in training mode replaces the gates while the modality is
    curated; before the first batch it is scale / 2, the gate of zero input.

    Args:
        width: E, length of the joint excitation e.
        channels: C_m.
        scale: the largest value of a gate.
    """

    average: Tensor
    count: Tensor

    def __init__(self, width: int, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.linear = nn.Linear(width, channels)
        self.register_buffer("average", torch.full((channels,), scale / 2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, excitation: Tensor, *, curated: bool) -> Tensor:
        """Map e (B, E) to gates (B, C_m); curated, to the average of the batches before this one."""
        past = self.average
        gate: Tensor = self.scale * torch.sigmoid(self.linear(excitation))
        if self.training:
            self._count_in(gate.detach().float().mean(dim=0))
        return past.to(gate.dtype).expand_as(gate) if curated else gate

    def _count_in(self, mean: Tensor) -> None:
        """Renew the average by a batch's mean (C_m,); not in place, for the graph may hold the old one."""
        self.count = self.count + 1
        self.average = self.average + (mean - self.average) / self.count


class Mmtm(nn.Module):
    """One exchange: the channels of every modality are scaled by gates that see all modalities.

        s_m = mean of A_m over space and frames, or over valid steps
        e = relu(W_s [s_1; ...; s_M] + b_s), of int(2 * sum over m of C_m / ratio) entries
        A_m <- gate_m * A_m, gate_m = gate_scale * sigmoid(W_m e + b_m)

    Modalities are joined in alphabetical order: the weights mean the same whatever the recipe's order is.

    Args:
        channels: C_m by modality.
        ratio: how much e is narrower than twice all channels.
        gate_scale: the largest value of a gate.
    """

    def __init__(self, channels: Mapping[str, int], ratio: float, gate_scale: float) -> None:
        super().__init__()
        total = sum(channels.values())
        width = max(1, int(2 * total / ratio))
        self.squeeze = nn.Linear(total, width)
        self.gates = nn.ModuleDict({m: Gate(width, channels[m], gate_scale) for m in sorted(channels)})

    def forward(self, hidden: Mapping[str, Hidden], curated: str | None = None) -> dict[str, Hidden]:
        """Return every modality's maps or tokens, of the same shape, times its gates."""
        means = torch.cat([hidden[m].mean() for m in self.gates], dim=1)
        excitation = torch.relu(self.squeeze(means))
        return {m: x.scaled(self.gates[m](excitation, curated=m == curated)) for m, x in hidden.items()}

    def bypass(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters of the squeeze and of the modality's gates."""
        return [*self.squeeze.parameters(), *self.gates[modality].parameters()]


class MmtmFusion(Staged):
    """Encoders that exchange through an `Mmtm` after each of their last stages, then linear heads.

    head average: z = mean over m of (W_m h_m + b_m), each modality's own head; head concat: one linear
    layer on [h_1; ...; h_M]. Features h_m already know the other modalities: logits of a modality alone
    are those of its features, not of its input.

    Differences from the authors' code: any number of modalities; every head learns from every batch in one
    step (there, two optimisers take turns). Like there, gates are plain sigmoids; `gate_scale: 2` makes
    them 1 at zero input. Video is squeezed over frames and space together.
    """

    class Settings(Staged.Settings):
        """The recipe block of `mmtm`."""

        ratio: PositiveFloat = Field(
            4.0,
            le=1e6,
            allow_inf_nan=False,
            description="width of the joint representation e: twice the channels of all modalities, divided by ratio",
        )
        gate_scale: PositiveFloat = Field(
            1.0, le=1e6, allow_inf_nan=False, description="largest value of a gate; with 2, a gate is 1 at zero input"
        )
        stages: PositiveInt = Field(
            3, le=1024, description="number of stages, counted from the last, that an exchange follows"
        )
        head: Literal["average", "concat"] = Field(
            "average",
            description="average: one head per modality, their logits averaged; concat: one head on all features",
        )

    provides: ClassVar[frozenset[str]] = frozenset({"gates"})
    graphs: ClassVar[bool] = False  # the gates' averages are replaced at every step

    settings: Settings

    def __init__(
        self, settings: Settings, widths: Mapping[str, int], num_classes: int, channels: Mapping[str, Sequence[int]]
    ) -> None:
        super().__init__(settings, widths, num_classes, channels)
        self.exchanges = nn.ModuleDict(
            {
                str(i): Mmtm({m: channels[m][i] for m in channels}, settings.ratio, settings.gate_scale)
                for i in range(self.num_stages - settings.stages, self.num_stages)
            }
        )
        self.heads = nn.ModuleDict()
        if settings.head == "average":
            self.heads.update({m: nn.Linear(widths[m], num_classes) for m in sorted(widths)})
        else:
            self.linear = nn.Linear(sum(widths.values()), num_classes)
        self._curated: str | None = None

    @classmethod
    def check(cls, settings: BaseModel, encoders: Encoders) -> Iterator[tuple[str, str]]:
        """Refuse encoders without stages, with unequal numbers of them, or with fewer than `stages`."""
        assert isinstance(settings, cls.Settings)
        unequal = list(unequal_stages("mmtm", encoders))
        yield from unequal
        count = num_stages(encoders)
        if not unequal and settings.stages > count:
            yield "fusion.stages", f"must be at most {count}, the number of stages of the backbones"

    @classmethod
    def offers(cls, settings: BaseModel) -> tuple[Decomposition, ...]:
        """Own heads, where there are some, and the fused logits without the other features."""
        assert isinstance(settings, cls.Settings)
        return ("head", "zero_others") if settings.head == "average" else ("zero_others",)

    def encode(self, encoders: Encoders, inputs: Features, lengths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the encoders side by side, with the exchanges; features {m: (B, D_m)}."""
        hidden = begin(encoders, inputs, lengths)
        for i in range(self.num_stages):
            hidden = {m: encoders[m].stage(i, x) for m, x in hidden.items()}
            if str(i) in self.exchanges:
                hidden = self.exchanges[str(i)](hidden, self._curated)
        return end(encoders, hidden)

    def forward(self, features: Features) -> Tensor:
        """Return the fused logits (B, C)."""
        if self.heads:
            return torch.stack(list(self._of_heads(features).values())).mean(dim=0)
        logits: Tensor = self.linear(torch.cat([features[m] for m in sorted(self.widths)], dim=1))
        return logits

    def unimodal_logits(self, features: Features, how: Decomposition) -> dict[str, Tensor]:
        """Return logits of each modality's features alone, {m: (B, C)}."""
        return self._of_heads(features) if how == "head" else super().unimodal_logits(features, how)

    def _of_heads(self, features: Features) -> dict[str, Tensor]:
        return {m: self.heads[m](features[m]) for m in self.widths}

    @contextmanager
    def curating(self, modality: str | None) -> Iterator[None]:
        """Within it, every gate of a modality is its running average: constant, and without gradient."""
        self._curated = modality
        try:
            yield
        finally:
            self._curated = None

    def branch(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters of the modality's own head; none with `head: concat`."""
        return list(self.heads[modality].parameters()) if self.heads else []

    def bypass(self, modality: str) -> list[nn.Parameter]:
        """Return the parameters of the modality's gates and of the squeezes before them, which all share."""
        exchanges = (cast("Mmtm", exchange) for exchange in self.exchanges.values())
        return [parameter for exchange in exchanges for parameter in exchange.bypass(modality)]
