"""Tables and figures that `drcli reproduce` makes: their YAML files, the runs of each, and how long those will take."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from drcli.amounts import counted
from drcli.errors import UsageError
from drcli.recipe.load import load_recipe, only
from drcli.recipe.schema import Name, Recipe, Seed, named
from drcli.recipe.shipped import find_recipe
from drcli.recipe.training import Block, Rate
from drcli.recipe.validate import validated
from drcli.runs import collect
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun, plan, select_seeds
from drcli.runs.wording import all_finished, duration

MOST_VARIANTS = 1000
"""Variants of one recipe that a target may have: each is a recipe of its own, with runs of its own."""

Drawing = Literal["noisy_case", "representations", "learning", "sensitivity"]

Speeds = Mapping[tuple[str, str], float]


class Variant(Block):
    """A recipe with other values; its runs have a folder of their own, `<recipe>-<name>`."""

    name: Annotated[str, AfterValidator(lambda text: text and named(text))] = Field(
        "", description="part of the name of its runs; empty: the recipe as it is, with runs that all targets share"
    )
    set: tuple[str, ...] = Field((), description="KEY=VALUE, as on the command line")
    data: Name | None = Field(None, description="other settings of `prepare`: the dataset is in <root>-<data>")

    @model_validator(mode="after")
    def _named(self) -> Variant:
        if not self.name and (self.set or self.data):
            raise ValueError("needs a name, since its runs differ from those of the recipe itself")
        return self


class Axis(Block):
    """A recipe's key and the values that it takes in turn."""

    key: str = Field(description="dotted key of the recipe")
    values: tuple[int | float | str, ...] = Field(min_length=1, description="values that it takes, one per run")


class Group(Block):
    """Labels that are trained, and in which variants."""

    labels: tuple[str, ...] = Field(min_length=1, description="labels of a recipe's methods, in the table's order")
    variants: tuple[Variant, ...] = Field((Variant(),), min_length=1, description="other values, each with its runs")
    grid: dict[Name, Axis] | None = Field(None, description="every combination of values, in place of variants")

    @model_validator(mode="after")
    def _expands(self) -> Group:
        if self.grid is not None and "variants" in self.model_fields_set:
            raise ValueError("must not have both variants and a grid")
        if self.count() > MOST_VARIANTS:
            raise ValueError(f"has more than {MOST_VARIANTS:,} combinations of values")
        names = [v.name for v in self.variants] if self.grid is None else [name for _, name in self._combinations()]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"has two variants of the name {twice[0]!r}")
        for name in filter(None, names):
            named(name)
        return self

    def count(self) -> int:
        """Return the number of variants."""
        return len(self.variants) if self.grid is None else math.prod(len(axis.values) for axis in self.grid.values())

    def all_variants(self) -> list[Variant]:
        """Return the variants, those of the grid written out: `lambda3-every10`."""
        if self.grid is None:
            return list(self.variants)
        keys = [axis.key for axis in self.grid.values()]
        return [
            Variant(name=name, set=tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True)))
            for values, name in self._combinations()
        ]

    def _combinations(self) -> Iterator[tuple[tuple[int | float | str, ...], str]]:
        """Yield the values of each variant of the grid, and its name."""
        axes = self.grid or {}
        for values in itertools.product(*(axis.values for axis in axes.values())):
            yield values, "-".join(f"{short}{value}" for short, value in zip(axes, values, strict=True))


class Target(Block):
    """A table or a figure of the paper."""

    name: Name = Field(description="name of the files that are written")
    title: str = Field(description="what it shows, in one line")
    kind: Literal["table", "figure"] = Field(description="what is made")
    draw: Drawing | None = Field(None, description="which figure; null: a table")
    recipes: tuple[str, ...] = Field(min_length=1, description="names or paths of recipes, one per dataset")
    seeds: tuple[Seed, ...] | None = Field(None, description="null: the seeds of the recipe")
    runs: tuple[Group, ...] = Field(min_length=1, description="what is trained of each recipe")
    for_recipe: dict[str, tuple[Group, ...]] = Field({}, description="runs of single recipes, in place of `runs`")
    seconds_per_epoch: dict[str, Rate] = Field({}, description="measured time per epoch, by recipe")

    @model_validator(mode="after")
    def _drawn(self) -> Target:
        if (self.kind == "figure") != (self.draw is not None):
            raise ValueError("a figure needs `draw`, and a table must not have it")
        for groups in (self.runs, *self.for_recipe.values()):
            if sum(group.count() for group in groups) > MOST_VARIANTS:
                raise ValueError(f"has more than {MOST_VARIANTS:,} variants of one recipe")
        return self

    def groups(self, recipe: str) -> tuple[Group, ...]:
        """Return the groups of runs of a recipe.

        Args:
            recipe: its name.
        """
        return self.for_recipe.get(recipe, self.runs)


def load_target(path: Path) -> Target:
    """Return the target of a YAML file; its name is the file's.

    Raises:
        RecipeError: it cannot be read, or is not valid; all problems in one message.
    """
    return validated(path, Target, name=path.stem)


def quoted(value: str | Path) -> str:
    """Return a text as a YAML value of KEY=VALUE, whatever characters it holds."""
    return json.dumps(str(value))


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
        UsageError: there are no seeds, or no recipe has any of the labels.
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


@dataclass(frozen=True)
class Work:
    """What is left to do.

    Attributes:
        total: number of runs.
        finished: how many of them are finished.
        seconds: estimate for the unfinished runs of known speed.
        unknown: number of unfinished runs of unknown speed.
        epochs: epochs that the latter have left in total.
    """

    total: int
    finished: int
    seconds: float
    unknown: int
    epochs: int = 0

    def __str__(self) -> str:
        if self.finished == self.total:
            return all_finished(self.total)
        left = f"{self.total} runs, {self.finished} of them finished; the rest takes"
        left = "1 run, not finished; it takes" if self.total == 1 else left
        if self.epochs == 0 and self.seconds == 0:
            return f"{left} no training"
        if self.unknown == self.total - self.finished:
            return f"{left} {counted(self.epochs, 'epoch')}; the time per epoch is known after the first run"
        unknown = f", and {counted(self.epochs, 'epoch')} of runs of unknown speed"
        return f"{left} about {duration(self.seconds)}{unknown if self.unknown else ''}"


def speeds(grids: Sequence[Grid], out: Path, recorded: Mapping[str, float]) -> Speeds:
    """Return seconds per epoch by (recipe without variant, label); the label "" stands for all others.

    Finished runs of the recipe and of its variants come first, then what the target recorded.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for base, name in dict.fromkeys((grid.base, folder) for grid in grids for folder in (grid.base, grid.recipe.name)):
        for label, speed in collect.speeds(out / name):
            for known in (label, "") if speed else (label,):
                found.setdefault((base, known), []).append(speed)
    measured = {key: fmean(values) for key, values in found.items()}
    return {**{(base, ""): speed for base, speed in recorded.items()}, **measured}


def work(grid: Grid, known: Speeds) -> Work:
    """Return what is left of a grid; finished epochs of unfinished runs count as done."""
    left = [run for run in grid.runs if not finished(run)]
    each = [known.get((grid.base, run.recipe.method), known.get((grid.base, ""))) for run in left]
    epochs = [_epochs_left(run) for run in left]
    times = [speed * count for speed, count in zip(each, epochs, strict=True) if speed is not None]
    unknown = [count for speed, count in zip(each, epochs, strict=True) if speed is None]
    return Work(len(grid.runs), len(grid.runs) - len(left), sum(times), len(unknown), sum(unknown))


def total(parts: Iterable[Work]) -> Work:
    """Return the work of all parts together."""
    runs, done, seconds, unknown, epochs = zip(*map(astuple, parts), strict=True)
    return Work(sum(runs), sum(done), sum(seconds), sum(unknown), sum(epochs))


def finished(run: PlannedRun) -> bool:
    """Return whether a run has its test scores; those of another recipe in its folder are not its own."""
    return RunDirectory(run.folder).is_finished(run.recipe)


def _epochs_left(run: PlannedRun) -> int:
    return max(0, run.epochs - RunDirectory(run.folder).count_epochs())
