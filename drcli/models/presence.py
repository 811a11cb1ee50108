"""Encoders of which some rows of a batch have no input: they run on the rows that have one.

The rows without get features of 0, or a stand-in, which depend on nothing: no gradient reaches the encoder through
them, and statistics of batch normalisation are those of the rows that are there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from drcli.data.rows import to_device
from drcli.models.backbone import Backbone, Hidden, Maps, Tokens

ALL_PRESENT: Mapping[str, Tensor] = MappingProxyType({})
"""Says that no row lacks a modality."""


class Partial:
    """An encoder that runs on some rows of a batch; to a fusion it is the encoder itself.

    Between the stages the other rows hold zeros, and tokens that are padding.

    Args:
        encoder: what it runs.
        present: which rows have an input (B,), bool, on the CPU.
        stand_in: features (D,) of the rows without; None for zeros.
    """

    def __init__(self, encoder: Backbone, present: Tensor, stand_in: Tensor | None = None) -> None:
        self._encoder = encoder
        self._rows = present.nonzero()[:, 0]
        self._size = len(present)
        self._stand_in = stand_in
        self._is_padded = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map (B, *shape) to features (B, D)."""
        encoder = self._encoder
        if not len(self._rows):
            return self._spread_features(torch.zeros(0, encoder.width, device=x.device))
        given = [self._taken(x), *([self._taken(lengths)] if lengths is not None and encoder.takes_lengths else [])]
        with self._able():
            return self._spread_features(encoder(*given))

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Hidden:
        """Return what the first stage takes, of all B rows."""
        with self._able():
            found = self._encoder.begin(self._taken(x), None if lengths is None else self._taken(lengths))
        self._is_padded = isinstance(found, Tokens) and found.padding is not None
        return self._spread(found)

    def stage(self, index: int, hidden: Hidden) -> Hidden:
        """Run one stage; all B rows in and out."""
        with self._able():
            return self._spread(self._encoder.stage(index, self._gathered(hidden)))

    def end(self, hidden: Hidden) -> Tensor:
        """Return the features (B, D)."""
        with self._able():
            found = self._encoder.end(self._gathered(hidden))
        return self._spread_features(found[: len(self._rows)])

    def _ran(self) -> Tensor:
        """The rows that are run: those that are there, or else the first, whose result is not used."""
        return self._rows if len(self._rows) else torch.zeros(1, dtype=torch.int64)

    def _taken(self, x: Tensor) -> Tensor:
        return x[to_device(self._ran(), x.device)]

    def _able(self) -> Any:
        """A single row has no statistics of its own; a row that only shows shapes has no gradient either."""
        count = len(self._rows)
        return nullcontext() if count > 1 else normalised_by_the_past(self._encoder, no_grad=count == 0)

    def _gathered(self, hidden: Hidden) -> Hidden:
        if isinstance(hidden, Maps):
            frames = hidden.values.unflatten(0, (self._size, hidden.frames))
            return replace(hidden, values=self._taken(frames).flatten(0, 1))
        padding = hidden.padding if self._is_padded else None
        return Tokens(self._taken(hidden.values), None if padding is None else self._taken(padding))

    def _spread(self, hidden: Hidden) -> Hidden:
        """Return maps or tokens of all rows from those that were run."""
        if isinstance(hidden, Maps):
            clips = hidden.values.unflatten(0, (-1, hidden.frames))
            return replace(hidden, values=self._into(clips, 0.0).flatten(0, 1))
        padding = hidden.padding
        if padding is None:
            padding = torch.zeros(hidden.values.shape[:2], dtype=torch.bool, device=hidden.values.device)
        return Tokens(self._into(hidden.values, 0.0), self._into(padding, True))

    def _into(self, found: Tensor, other: float | bool) -> Tensor:
        """Return (B, ...) with `found` in the rows that are there, and a constant in the others."""
        whole = found.new_full((self._size, *found.shape[1:]), other)
        rows = to_device(self._rows, found.device)
        return whole.index_copy(0, rows, found[: len(self._rows)])

    def _spread_features(self, found: Tensor) -> Tensor:
        whole = found.new_zeros(self._size, found.shape[1])
        if self._stand_in is not None:
            whole = whole + self._stand_in.to(whole)
        return whole.index_copy(0, to_device(self._rows, found.device), found)


@contextmanager
def normalised_by_the_past(module: nn.Module, *, no_grad: bool) -> Iterator[None]:
    """Let layers of batch normalisation use their running statistics, and leave these as they are.

    Args:
        module: what holds the layers.
        no_grad: whether nothing in the body gets a gradient.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.training]
    for layer in layers:
        layer.eval()
    try:
        with torch.no_grad() if no_grad else nullcontext():
            yield
    finally:
        for layer in layers:
            layer.train()


def partial(
    encoders: Mapping[str, Backbone], present: Mapping[str, Tensor], stand_ins: Mapping[str, Tensor]
) -> dict[str, Backbone]:
    """Return encoders that run on the rows that are there.

    Args:
        encoders: by modality.
        present: which rows have the modality, {m: (B,)}, bool, on the CPU; of one that is left out, every row has.
        stand_ins: features {m: (D_m,)} of the rows without; 0 for those that are left out.
    """
    return {
        m: encoder if m not in present else cast("Backbone", Partial(encoder, present[m], stand_ins.get(m)))
        for m, encoder in encoders.items()
    }


def weights_of(present: Mapping[str, Tensor], modalities: Mapping[str, Any], like: Tensor) -> Tensor:
    """Return 1 / (number of modalities that a row has) where it has the modality and else 0, (M, B)."""
    size = len(next(iter(present.values())))
    everyone = torch.ones(size, dtype=torch.bool)
    there = torch.stack([present.get(m, everyone) for m in modalities]).to(like.dtype)
    return to_device(there / there.sum(dim=0).clamp(min=1), like.device)
