"""A method and a fusion of somebody else's package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, PositiveFloat

from drcli.data.batches import Batch
from drcli.methods.base import Losses, Method
from drcli.methods.context import Context
from drcli.models.fusion import Outputs, Sum


class Louder(Method):
    """Joint training on a multiple of its loss."""

    class Settings(BaseModel, extra="forbid", frozen=True):
        factor: PositiveFloat = 1.0

    neutral: ClassVar[Mapping[str, Any] | None] = {"factor": 1.0}

    settings: Settings

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        return {"louder": self.settings.factor * super().losses(ctx, outputs, batch)["joint"]}


class Added(Sum):
    """The fusion sum under another name."""
