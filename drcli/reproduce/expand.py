"""From a target to the runs that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drcli.errors import UsageError
from drcli.recipe.load import load_recipe, only
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.reproduce.target import Group, Target, Variant, quoted
from drcli.runs.planned import PlannedRun, plan, select_seeds


@dataclass(frozen=True)
class Choice:
    """What the command line changes in a target.

    Attributes:
        overrides: KEY=VALUE for every recipe.
        dataset: recipe in place of the target's own.
        data: folder that holds the prepared datasets, each under its name; None: where the recipes say.
        seeds: such as "0,1,2"; None: the target's, else the recipes'.
        out: folder that holds the runs.
    """

    overrides: Sequence[str] = ()
    dataset: str | None = None
    data: Path | None = None
    seeds: str | None = None
    out: Path = Path("runs")


@dataclass(frozen=True)
class Grid:
    """Runs of one recipe, or of one variant of it.

    Attributes:
        base: name of the recipe without the variant.
        recipe: the recipe, the variant's values set.
        runs: what is trained of it.
    """

    base: str
    recipe: Recipe
    runs: Sequence[PlannedRun]


@dataclass(frozen=True)
class Expanded:
    """A target's runs.

    Attributes:
        grids: in the order in which they are trained.
        notes: what is left out, and why.
    """

    grids: Sequence[Grid]
    notes: Sequence[str]

    @property
    def runs(self) -> list[PlannedRun]:
        """All runs, in order."""
        return [run for grid in self.grids for run in grid.runs]


def expand(target: Target, choice: Choice) -> Expanded:
    """Return the runs of a target.

    Labels that a recipe lacks are left out, with a note.

    Raises:
        RecipeError: a recipe, or a variant of it, is not valid.
        UsageError: the seeds are none, or no recipe has any of the labels.
    """
    grids, notes = [], []
    for text in (choice.dataset,) if choice.dataset is not None else target.recipes:
        path = find_recipe(text)
        base = load_recipe(path, choice.overrides, only())
        root = base.dataset.root if choice.data is None else choice.data / base.dataset.name
        for group in target.groups(base.name):
            labels, missing = _labels(base, group)
            notes += (
                [f"left out, since the recipe {base.name} does not have them: {', '.join(missing)}"] if missing else []
            )
            for variant in group.all_variants() if labels else ():
                overrides = [*choice.overrides, *_overrides(base, root, variant)]
                recipe = load_recipe(path, overrides, only(*labels))
                grids.append(Grid(base.name, recipe, plan(recipe, labels, _seeds(recipe, target, choice), choice.out)))
    if not grids:
        raise UsageError(f"reproduce {target.name}: none of its methods is in the recipe; " + "; ".join(notes))
    return Expanded(grids, list(dict.fromkeys(notes)))


def _labels(recipe: Recipe, group: Group) -> tuple[list[str], list[str]]:
    """Return the labels of a group that the recipe has, and those that it does not have."""
    present = [label for label in group.labels if label in recipe.methods]
    return present, [label for label in group.labels if label not in recipe.methods]


def _overrides(base: Recipe, root: Path, variant: Variant) -> list[str]:
    if not variant.name:
        return [f"dataset.root={quoted(root)}"]
    place = root if variant.data is None else root.with_name(f"{root.name}-{variant.data}")
    return [f"name={quoted(f'{base.name}-{variant.name}')}", f"dataset.root={quoted(place)}", *variant.set]


def _seeds(recipe: Recipe, target: Target, choice: Choice) -> list[int]:
    if choice.seeds is None and target.seeds is not None:
        return list(target.seeds)
    return select_seeds(recipe, choice.seeds)
