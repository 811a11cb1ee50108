"""What a target is: a table or a figure, and the runs that it is made of."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveFloat, ValidationError, model_validator

from drcli.errors import RecipeError
from drcli.recipe.plain_yaml import read_yaml
from drcli.recipe.schema import Block, Name, named

MAX_POINTS = 1000
"""Combinations of values of a grid."""

Drawing = Literal["noisy_case", "representations", "learning", "sensitivity"]


class Variant(Block):
    """A recipe with other values; its runs have a folder of their own, `<recipe>-<name>`."""

    name: Annotated[str, AfterValidator(lambda text: text and named(text))] = Field(
        "", description="empty: the recipe as it is, whose runs every target shares"
    )
    set: tuple[str, ...] = Field((), description="KEY=VALUE, as on the command line")
    data: Name | None = Field(None, description="with other settings of `prepare`: the dataset lies in <root>-<data>")

    @model_validator(mode="after")
    def _named(self) -> Variant:
        if not self.name and (self.set or self.data):
            raise ValueError("needs a name: its runs are not those of the recipe itself")
        return self


class Axis(Block):
    """A recipe's key and the values that it takes in turn."""

    key: str
    values: tuple[int | float | str, ...] = Field(min_length=1)


class Group(Block):
    """Labels that are trained, and in which variants."""

    labels: tuple[str, ...] = Field(min_length=1, description="labels of a recipe's methods, in the table's order")
    variants: tuple[Variant, ...] = Field((Variant(),), min_length=1)
    grid: dict[Name, Axis] | None = Field(None, description="every combination of values, in place of variants")

    @model_validator(mode="after")
    def _expands(self) -> Group:
        if self.grid is not None and "variants" in self.model_fields_set:
            raise ValueError("has variants and a grid; leave one of them out")
        points = math.prod(len(axis.values) for axis in (self.grid or {}).values())
        if points > MAX_POINTS:
            raise ValueError(f"has a grid of {points:.3g} points; at most {MAX_POINTS} are trained")
        self.all_variants()  # values of a grid that give no name are refused here
        return self

    def all_variants(self) -> list[Variant]:
        """Return the variants, those of the grid written out: `lambda3-every10`."""
        if self.grid is None:
            return list(self.variants)
        combinations = itertools.product(*(axis.values for axis in self.grid.values()))
        return [
            Variant(
                name="-".join(f"{short}{value}" for short, value in zip(self.grid, values, strict=True)),
                set=tuple(f"{axis.key}={value}" for axis, value in zip(self.grid.values(), values, strict=True)),
            )
            for values in combinations
        ]


class Target(Block):
    """A table or a figure of the paper."""

    name: Name
    title: str
    kind: Literal["table", "figure"]
    draw: Drawing | None = Field(None, description="which figure")
    recipes: tuple[str, ...] = Field(min_length=1, description="names or paths of recipes, one a dataset")
    seeds: tuple[NonNegativeInt, ...] | None = Field(None, description="null: the recipe's")
    runs: tuple[Group, ...] = Field(min_length=1)
    for_recipe: dict[str, tuple[Group, ...]] = Field({}, description="runs of single recipes, in place of `runs`")
    seconds_per_epoch: dict[str, PositiveFloat] = Field({}, description="by recipe, where somebody measured them")

    @model_validator(mode="after")
    def _drawn(self) -> Target:
        if (self.kind == "figure") != (self.draw is not None):
            raise ValueError("draw: a figure says which it is, a table does not")
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
    data = read_yaml(path, remedy="give one such as those in recipes/tables", error=RecipeError)
    if not isinstance(data, dict):
        raise RecipeError(f"{path}: a target is a block of keys: title, kind, recipes, runs")
    try:
        return Target(**{"name": path.stem, **data})
    except (ValidationError, TypeError) as error:
        raise RecipeError(f"{path}: {_problems(error)}") from error


def _problems(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):  # a key that is no text
        return "keys must be texts"
    found = error.errors(include_url=False, include_context=False)
    lines = [f"  {'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}" for problem in found]
    return "\n".join([f"{len(lines)} problem{'s' if len(lines) > 1 else ''}", *lines])


def quoted(value: str | Path) -> str:
    """Return a text as a YAML value of KEY=VALUE, whatever characters it holds."""
    return json.dumps(str(value))
