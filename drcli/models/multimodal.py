"""The multimodal classifier: one encoder per modality and a fusion over them; passes that leave no trace on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Self, cast

import torch
from torch import Tensor, nn

from drcli.data.batches import Batch, Batches
from drcli.diagnosis.reinitialise import BATCH_NORMS, is_frozen
from drcli.models.backbone import Backbone
from drcli.models.fusion import Additive, Decomposition, Encoders, Fusion, Outputs, encode_alone
from drcli.models.presence import ALL_PRESENT, partial
from drcli.relearning.features import evaluating

NO_LENGTHS: Mapping[str, Tensor] = MappingProxyType({})

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class MultimodalModel(nn.Module):
    """Encoders by modality and a fusion.

    The parameters of a modality are `model.encoders[m].parameters()`, never those whose name contains
    "m"; everything else belongs to the group "fusion".

    Args:
        encoders: the encoders, in the recipe's order.
        fusion: what joins them.
        precision: "bf16" and "fp16" run encoders and fusion under autocast, "auto" in bf16 on a GPU; what comes out is
            float32 either way.
    """

    def __init__(self, encoders: Mapping[str, Backbone], fusion: Fusion, precision: Precision = "fp32") -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.fusion = fusion
        self.precision = precision
        self.stand_ins: Mapping[str, Tensor] = {}
        """Features {m: (D_m,)} of rows that lack a modality; 0 of those that are left out."""

    def train(self, mode: bool = True) -> Self:
        """Set the mode; layers of batch normalisation whose weights are frozen stay in evaluation mode."""
        super().train(mode)
        rest_frozen(self)
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the recipe's order."""
        return tuple(self.encoders)

    def encode(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor] = NO_LENGTHS,
        present: Mapping[str, Tensor] = ALL_PRESENT,
    ) -> dict[str, Tensor]:
        """Return the features {m: (B, D_m)} of inputs {m: (B, ...)}.

        Args:
            inputs: one batch of each modality.
            lengths: valid steps {m: (B,)} of sequences, for encoders that take them.
            present: which rows have a modality, {m: (B,)}, bool, on the CPU; of one that is left out, every row has.
                The others have features of 0, or `stand_ins`.
        """
        with self._casting(inputs), self._given(present):
            features = self.fusion.encode(self._backbones(present), inputs, lengths)
        return {m: x.float() for m, x in features.items()}

    def encode_alone(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor] = NO_LENGTHS,
        present: Mapping[str, Tensor] = ALL_PRESENT,
    ) -> dict[str, Tensor]:
        """Return the features {m: (B, D_m)} of each encoder by itself, whatever the fusion would exchange.

        Only the encoders of the modalities in `inputs`, one at least, are run; see `encode`.
        """
        encoders = {m: encoder for m, encoder in self._backbones(present).items() if m in inputs}
        with self._casting(inputs):
            features = {m: encode_alone(encoder, inputs[m], lengths.get(m)) for m, encoder in encoders.items()}
        return {m: x.float() for m, x in features.items()}

    def forward(
        self,
        inputs: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor] = NO_LENGTHS,
        present: Mapping[str, Tensor] = ALL_PRESENT,
    ) -> Outputs:
        """Map inputs {m: (B, ...)} and valid steps {m: (B,)} to features and logits; see `encode`."""
        with self._casting(inputs), self._given(present):
            outputs = self.fusion.run(self._backbones(present), inputs, lengths)
        return Outputs({m: x.float() for m, x in outputs.features.items()}, outputs.logits.float())

    def forward_seen(self, batch: Batch) -> Outputs:
        """Run encoders and a late fusion on a batch, with features of 0 where a modality is not seen.

        An encoder of which no row of the whole batch is seen is not run: it gets no gradient, and its statistics
        of batch normalisation stay. Without a gradient, neither momentum nor weight decay moves it.
        """
        unseen = {m for m, seen in batch.whole.seen.items() if not seen.any()}
        inputs = {m: x for m, x in batch.inputs.items() if m not in unseen}
        found = self.encode_alone(inputs, batch.lengths, batch.present)
        features = {m: self._masked(m, found, batch) for m in self.modalities}
        return Outputs(features, self.fuse(features, batch.present))

    def _masked(self, modality: str, found: Mapping[str, Tensor], batch: Batch) -> Tensor:
        if modality not in found:
            return torch.zeros(len(batch.labels), self.fusion.widths[modality], device=batch.labels.device)
        features = found[modality]
        if modality not in batch.seen:
            return features
        seen = batch.seen[modality].to(features.device, non_blocking=True)
        return features * seen[:, None]

    def fuse(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor] = ALL_PRESENT) -> Tensor:
        """Return the logits (B, C) of a late fusion over features {m: (B, D_m)}; see `encode`."""
        with self._casting(features), self._given(present):
            logits: Tensor = self.fusion(features)
        return logits.float()

    def unimodal_logits(self, features: Mapping[str, Tensor], how: Decomposition) -> dict[str, Tensor]:
        """Return logits of each modality alone, {m: (B, C)}; see `Fusion.unimodal_logits`."""
        return self.fusion.unimodal_logits(features, how)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by owner: one group per encoder, and "fusion".

        The groups are disjoint and cover the model.
        """
        groups = {m: list(encoder.parameters()) for m, encoder in self.encoders.items()}
        groups["fusion"] = list(self.fusion.parameters())
        return groups

    def _backbones(self, present: Mapping[str, Tensor] = ALL_PRESENT) -> Encoders:
        encoders = {m: cast("Backbone", encoder) for m, encoder in self.encoders.items()}
        return partial(encoders, present, self.stand_ins) if present else encoders

    def _given(self, present: Mapping[str, Tensor]) -> AbstractContextManager[object]:
        return self.fusion.given(present) if present else nullcontext()

    def _casting(self, inputs: Mapping[str, Tensor]) -> AbstractContextManager[object]:
        device = next(iter(inputs.values())).device.type
        if self.precision == "bf16" or (self.precision == "auto" and device == "cuda"):
            return torch.autocast(device, torch.bfloat16)
        return torch.autocast(device, torch.float16) if self.precision == "fp16" else nullcontext()


def rest_frozen(module: nn.Module) -> None:
    """Put layers of batch normalisation whose weights are frozen into evaluation mode: their statistics stay."""
    for layer in module.modules():
        if isinstance(layer, BATCH_NORMS) and is_frozen(layer):
            layer.eval()


@dataclass(frozen=True)
class Teacher:
    """The selected epoch of a unimodal run.

    Attributes:
        encoder: state of its encoder.
        head: weight (C, D) and bias (C,) of its linear head.
    """

    encoder: Mapping[str, Tensor]
    head: Mapping[str, Tensor]

    @classmethod
    def of(cls, model: MultimodalModel) -> Teacher:
        """Take encoder and head of a unimodal run's model."""
        (modality,) = model.modalities
        assert isinstance(model.fusion, Additive)
        linear = next(layer for layer in model.fusion.modules() if isinstance(layer, nn.Linear))
        return cls(model.encoders[modality].state_dict(), linear.state_dict())


def over_rows(
    batches: Batches,
    batch_size: int,
    compute: Callable[[Batch], Mapping[str, Tensor]],
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return what `compute` gives for each row, {name: (N, K)} on the CPU, in order.

    Several processes share the batches, and each returns the whole.

    Args:
        batches: the split.
        batch_size: rows of a step.
        compute: gives {name: (B, K)}, float32 and the same names for every batch.
        rows: row numbers (N,), in the order wanted; None: all rows in stored order.
    """
    pieces: dict[str, list[Tensor]] = {}
    for batch in batches.dealt(batch_size, rows):
        for name, values in compute(batch).items():
            # A copy: CUDA graphs write the next batch's over them, and a view would keep all that it is taken from.
            pieces.setdefault(name, []).append(values.clone())
    own = {name: torch.cat(values).cpu() for name, values in pieces.items()}  # the device is waited for once
    if batches.world.size == 1:
        return own
    widths = batches.world.on_main(lambda: {name: values.shape[1] for name, values in own.items()})
    packed = torch.cat(list(own.values()), dim=1) if own else torch.empty(0, sum(widths.values()))
    columns = torch.split(batches.collected(packed, batch_size, rows), list(widths.values()), dim=1)
    return {name: column.contiguous() for name, column in zip(widths, columns, strict=True)}


def extract_features(
    model: MultimodalModel, batches: Batches, batch_size: int, rows: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the representations of a split, or of some of its rows, and their labels, on the CPU.

    No generator that training uses is touched.

    Args:
        model: its encoders are run in evaluation mode.
        batches: the split.
        batch_size: rows of a step.
        rows: row numbers (N,), in the order wanted; None: all rows in stored order.

    Returns:
        Features {m: (N, D_m)} in float32, and labels (N,).
    """

    def encode(batch: Batch) -> dict[str, Tensor]:
        return model.encode(batch.inputs, batch.lengths, batch.present)

    with evaluating(model):
        features = over_rows(batches, batch_size, encode, rows)
    labels = batches.split.labels
    return {m: features[m] for m in model.modalities}, labels if rows is None else labels[rows]
