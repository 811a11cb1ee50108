"""The window of epochs in which a method acts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field, NonNegativeInt

from drcli.methods.base import Method
from drcli.methods.context import Context

First = Annotated[NonNegativeInt, Field(le=1_000_000, description="first epoch in which the method acts, from 0")]
Last = Annotated[int, Field(ge=-1, le=1_000_000, description="last epoch in which the method acts; -1: none")]


class Window(Method):
    """Base of the methods that act from epoch `starts` to epoch `ends`, both included."""

    class Settings(Method.Settings):
        """What the recipe blocks of these methods have in common."""

        starts: First = 0
        ends: Last

    settings: Settings

    def is_on(self, ctx: Context) -> bool:
        """Return whether the method acts in the present epoch."""
        return self.settings.starts <= ctx.epoch <= self.settings.ends

    def warnings(self, ctx: Context) -> Iterable[str]:
        """Warn where no epoch of the run is in the window."""
        yield from super().warnings(ctx)
        yield from missed(self.settings.starts, self.settings.ends, ctx.epochs)


def missed(starts: int, ends: int, epochs: int) -> Iterator[str]:
    """Yield the warning where a window (from 0, both ends in it) holds no epoch of the run."""
    if max(starts, 0) > min(ends, epochs - 1):
        yield f"it never acts (starts: {starts}, ends: {ends}, {epochs} epochs): this is joint training"
