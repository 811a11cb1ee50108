"""What is searched for a method: ranges from its settings and from the recipe, and how values are drawn from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel

from drcli.bases import SEARCH
from drcli.errors import RecipeError, UsageError
from drcli.names import METHODS
from drcli.recipe.load import recipe_from_dict
from drcli.recipe.schema import RELEARN, TRAINING, Recipe, plain
from drcli.recipe.search import entries
from drcli.recipe.shape import Shape, schema_of
from drcli.recipe.text import dotted, leaves
from drcli.relearning.settings import RelearnSettings
from drcli.seeding import derive

Sampler = Literal["random", "tpe"]
SAMPLERS: tuple[Sampler, ...] = ("random", "tpe")

Value: TypeAlias = int | float | str
Values: TypeAlias = dict[str, Value]
"""Values by dotted key inside a method's block, such as {"alpha": 0.5, "training.optimizer.lr": 0.01}."""

LEARNING_RATE = f"{TRAINING}.optimizer.lr"
REACH = 10.0
"""The learning rate is searched from a tenth of the recipe's to ten times it, where the recipe says nothing else."""
HIGHEST_RATE = 1e6
"""The greatest learning rate that a recipe may have."""

DIGITS = 3
"""Significant digits of a value that is drawn: a trial is made of what the tuned recipe will say."""


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; `whole` numbers only, or drawn evenly in its logarithm."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def ends(self) -> tuple[Value, Value]:
        """Return its least and its greatest value."""
        return (round(self.low), round(self.high)) if self.whole else (self.low, self.high)

    def rounded(self, value: Any) -> Value:
        """Return a drawn value as recipes have it."""
        return int(value) if self.whole else min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Value, ...]

    def ends(self) -> tuple[Value, ...]:
        """Return all of them."""
        return self.values

    def rounded(self, value: Value) -> Value:
        """Return the value."""
        return value


Axis: TypeAlias = Range | Choice
Space: TypeAlias = dict[str, Axis]
"""What is searched, by dotted key inside a method's block."""


def space_of(recipe: Recipe, label: str) -> Space:
    """Return what is searched for a label: the learning rate, the method's own numbers, and what `search:` says.

    A number of the method is searched where the recipe gives it as a number: null stands for another way of doing
    things, which is not searched.

    Raises:
        RecipeError: `search:` names a key that is not there, or a range whose end is not allowed.
    """
    block, present = recipe.methods[label], present_values(recipe, label)
    rate = (block.training or recipe.training).optimizer.lr
    found: Space = {LEARNING_RATE: Range(rate / REACH, min(rate * REACH, HIGHEST_RATE), log=True)}
    found |= _annotated(METHODS.load(block.method).Settings, block.settings)
    if block.relearn is not None:
        found |= _annotated(RelearnSettings, block.relearn, f"{RELEARN}.")
    for key, said in _said(recipe, label):
        found.pop(key, None)
        if key not in present:
            raise RecipeError(f"search: {label} has no {key}; leave it out, or name a key of its block or of training")
        if said is not None:
            found[key] = _axis(said, present[key])
    ends = {key: axis.ends() for key, axis in found.items()}
    for place in range(max(map(len, ends.values()), default=0)):
        with_values(recipe, label, {key: values[min(place, len(values) - 1)] for key, values in ends.items()})
    return found


def _annotated(model: type[BaseModel], settings: BaseModel, prefix: str = "") -> Iterator[tuple[str, Axis]]:
    """Yield the ranges that the settings declare, of those that are numbers now and mean something."""
    present = plain(settings)
    for name, schema in schema_of(model).get("properties", {}).items():
        said = schema.get(SEARCH)
        is_number = isinstance(present[name], int | float)
        if said is None or not is_number or any(present[k] != v for k, v in said["when"].items()):
            continue
        whole = all(branch.get("type") == "integer" for branch in Shape.of(schema).branches)
        yield f"{prefix}{name}", Range(said["low"], said["high"], said["log"], whole)


def _said(recipe: Recipe, label: str) -> Iterator[tuple[str, Any]]:
    """Yield what `search:` says for a label, by key in its block; what it says for this label alone comes last."""
    found = list(entries(recipe.search))
    yield from ((dotted(key), value) for key, value in found if key[0] == TRAINING)
    yield from ((dotted(key[2:]), value) for key, value in found if key[:2] == ("methods", label))


def _axis(said: Any, present: Any) -> Axis:
    if isinstance(said, Mapping):
        return Range(said["low"], said["high"], bool(said.get("log", False)), whole=type(present) is int)
    return Choice(tuple(said))


def present_values(recipe: Recipe, label: str) -> dict[str, Any]:
    """Return every value of a method's block, with those of its training, by dotted key."""
    block = recipe.methods[label]
    training = block.training or recipe.training
    parts = {f"{TRAINING}.rates.{part}": rate for part, rate in recipe.part_rates(training).items()}
    data = {**block.plain(), TRAINING: plain(training)}
    return parts | {dotted(key): value for key, value in leaves(data)}


def with_values(recipe: Recipe, label: str, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of one label with other values in its block, beside unimodal training, for its teachers.

    Raises:
        RecipeError: one of them is not allowed, alone or with the others.
    """
    kept = {name: block for name, block in recipe.methods.items() if name == label or block.method == "unimodal"}
    data = replace(recipe, method=label, methods=kept, search={}).to_dict()
    put(data["methods"][label], values)
    return recipe_from_dict(data, where=f"a trial of {label}")


def put(block: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set values by dotted key in a block of plain data, making the blocks on the way."""
    for key, value in values.items():
        *way, last = key.split(".")
        inner = block
        for part in way:
            inner[part] = dict(inner.get(part) or {})
            inner = inner[part]
        inner[last] = value


@dataclass(frozen=True)
class Told:
    """A trial that a sampler is told of: its values, those of the recipe filled in, and what it is worth.

    Attributes:
        values: by dotted key in the method's block.
        merit: validation accuracy, or MAE with the other sign: the greatest is the best.
    """

    values: Mapping[str, Any]
    merit: float


def import_optuna() -> Any:
    """Return the package `optuna`, which says nothing but errors.

    Raises:
        UsageError: it is not installed.
    """
    try:
        optuna = import_module("optuna")
    except ModuleNotFoundError as error:
        raise UsageError("drcli tune: Optuna is not installed; run pip install 'drcli[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def draw(space: Space, sampler: Sampler, names: tuple[str | int, ...], told: Sequence[Told]) -> Values:
    """Return the values of a trial: a pure function of what is searched, of the names, and of earlier trials.

    The sampler is made anew for each trial, and its seed is derived from the names alone. A study that goes on after
    a kill therefore draws what it would have drawn, and no seed of a training changes a value.

    Args:
        space: what is searched.
        sampler: random, or Optuna's tree-structured Parzen estimator, which draws its first ten trials at random.
        names: of the trial.
        told: the earlier trials that the sampler knows of; random takes no notice of them.
    """
    optuna = import_optuna()
    seed = derive(0, "tune", *names) % 2**32
    samplers = optuna.samplers
    made = samplers.RandomSampler(seed=seed) if sampler == "random" else samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=made)
    distributions = {key: _distribution(optuna, axis) for key, axis in space.items()}
    for trial in told if sampler == "tpe" else ():
        study.add_trial(_as_theirs(optuna, distributions, trial))
    drawn = study.ask(distributions).params
    return {key: axis.rounded(drawn[key]) for key, axis in space.items()}


def _distribution(optuna: Any, axis: Axis) -> Any:
    made = optuna.distributions
    if isinstance(axis, Choice):
        return made.CategoricalDistribution(axis.values)
    kind = made.IntDistribution if axis.whole else made.FloatDistribution
    return kind(*axis.ends(), log=axis.log)


def _as_theirs(optuna: Any, distributions: Mapping[str, Any], trial: Told) -> Any:
    """Return a trial as Optuna keeps it; a value of the recipe that is out of its range is left out."""
    fit = {key: made for key, made in distributions.items() if _within(made, trial.values[key])}
    params = {key: trial.values[key] for key in fit}
    return optuna.trial.create_trial(params=params, distributions=fit, value=trial.merit)


def _within(distribution: Any, value: Any) -> bool:
    choices = getattr(distribution, "choices", None)
    return value in choices if choices is not None else bool(distribution.low <= value <= distribution.high)
