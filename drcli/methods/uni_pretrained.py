"""Joint training from encoders that were trained alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from drcli.methods.base import Method, own_block
from drcli.methods.context import Context
from drcli.names import TEACHERS
from drcli.recipe.schema import RELEARN, Recipe
from drcli.task import TaskName


class UniPretrained(Method):
    """Encoders of the unimodal runs of the same seed under a new fusion, frozen or fine-tuned.

    Everything else is joint training, over as many epochs. Frozen encoders are features: their parameters
    get no gradient, and they run in evaluation mode, so that neither statistics of batch normalisation
    move nor dropout acts. These are the baselines "uni-pre frozen" and "uni-pre finetuned" of Kontras et
    al. (arXiv 2411.07335).
    """

    class Settings(Method.Settings):
        """The recipe block of `uni_pretrained`."""

        encoders: Literal["frozen", "finetuned"] = Field(
            "finetuned",
            description="frozen: encoders stay as the unimodal runs left them; finetuned: they are trained on",
        )

    requires: ClassVar[frozenset[str]] = frozenset({TEACHERS})
    neutral: ClassVar[Mapping[str, Any] | None] = None
    neutral_reason: ClassVar[str] = "its encoders start from those of the unimodal runs, not from random weights"
    tasks: ClassVar[frozenset[TaskName]] = Method.tasks

    settings: Settings

    @classmethod
    def check(cls, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Refuse to pull back encoders that are never moved."""
        key, settings = own_block(recipe)
        if settings.encoders == "frozen" and recipe.methods[recipe.method].relearn is not None:
            yield f"{key}.{RELEARN}", "frozen encoders cannot be re-learned; leave it out, or set encoders: finetuned"

    @classmethod
    def moved(cls, settings: Settings) -> str:
        """Return what the method moves: frozen encoders not."""
        return "the fusion alone, by the optimiser" if settings.encoders == "frozen" else cls.moves

    def setup(self, ctx: Context) -> None:
        """Start the encoders from the unimodal runs; frozen ones take no gradient."""
        for m in ctx.model.modalities:
            ctx.model.encoders[m].load_state_dict(ctx.teachers[m].encoder)
        if self.settings.encoders == "frozen":
            ctx.model.encoders.requires_grad_(False)

    def on_epoch_start(self, ctx: Context) -> None:
        """Keep frozen encoders in evaluation mode."""
        if self.settings.encoders == "frozen":
            ctx.model.encoders.eval()
