"""What figures say about the runs they are drawn from."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from drcli.runs.collect import RunRecord


def name_recipe(runs: Sequence[RunRecord]) -> str:
    """Return the names of the runs' recipes, and those of their datasets where they are others."""
    recipes = list(dict.fromkeys(run.recipe_name for run in runs))
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    names = ", ".join(recipes)
    return names if recipes == datasets else f"{names} (dataset {', '.join(datasets)})"


def count_seeds(counts: Collection[int]) -> str:
    """Return how many seeds there are: "1 seed", "5 seeds", or "3 to 5 seeds" where it is not the same everywhere."""
    least, most = min(counts), max(counts)
    number = str(most) if least == most else f"{least} to {most}"
    return f"{number} seed{'' if most == 1 else 's'}"


def per_cent(mean: float, std: float | None) -> str:
    """Return a fraction in per cent, with its standard deviation where it has one: "84.2 ± 1.3"."""
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}"
