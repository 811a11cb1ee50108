"""What a target is: a table or a figure, and the runs that it is made of."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from drcli.recipe.file import validated
from drcli.recipe.schema import Block, Name, Rate, Seed, named

MOST_VARIANTS = 1000
"""Variants of one recipe that a target may have: each is a recipe of its own, with runs of its own."""

Drawing = Literal["noisy_case", "representations", "learning", "sensitivity"]


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
