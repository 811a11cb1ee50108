"""dataset.root=DIR for commands that take a checkpoint: where its prepared dataset is now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drcli.recipe.overrides import Override

KEY = "dataset.root"


def split_root(overrides: Sequence[Override]) -> tuple[Path | None, list[Override]]:
    """Return the folder of dataset.root=DIR, or None where it is not given, and the other overrides."""
    roots = [Path(str(override.value)) for override in overrides if override.path == KEY]
    return (roots[-1] if roots else None), [override for override in overrides if override.path != KEY]
