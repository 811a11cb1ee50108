"""A backbone of somebody else's: the transformer of sequences over the rows of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from drcli.models.backbone import Tokens
from drcli.models.transformer import Transformer


class RowsTransformer(Transformer):
    """Takes (1, H, W) as H steps of W numbers."""

    ranks: ClassVar[tuple[int, ...]] = (3,)
    takes_lengths: ClassVar[bool] = False

    def __init__(self, settings: Transformer.Settings, shape: Sequence[int]) -> None:
        type(self).ranks = (2,)
        super().__init__(settings, shape[1:])
        type(self).ranks = (3,)

    def begin(self, x: Tensor, lengths: Tensor | None = None) -> Tokens:
        return super().begin(x.squeeze(1), lengths)
