"""Methods that end their run in one way each."""

from __future__ import annotations

from drcli.api import Batch, Context, Losses, Method, Outputs


class FailsInSetup(Method):
    """Ends before its first epoch, by a bug."""

    def setup(self, ctx: Context) -> None:
        raise ZeroDivisionError("of the plug-in")


class Diverges(Method):
    """Has a loss that is not a number."""

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        return {"joint": super().losses(ctx, outputs, batch)["joint"] * float("nan")}


class DivergesLater(Method):
    """Has a loss that is not a number from epoch 1 on."""

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        factor = 1.0 if ctx.epoch == 0 else float("nan")
        return {"joint": super().losses(ctx, outputs, batch)["joint"] * factor}


class Killed(Method):
    """Is stopped from outside in its first step."""

    def losses(self, ctx: Context, outputs: Outputs, batch: Batch) -> Losses:
        raise KeyboardInterrupt


class Exits(Method):
    """Tries to end the whole process."""

    def setup(self, ctx: Context) -> None:
        raise SystemExit(7)
