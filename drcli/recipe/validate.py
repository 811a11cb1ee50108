"""Validation: of a recipe's blocks one by one, then of what is valid alone and not together; of other YAML files.

One block's problems do not hide another's. Files that one model describes, such as the targets of
`drcli reproduce`, are read and refused like recipes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from drcli.errors import UsageError
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS, TEACHERS
from drcli.reading import MAX_DEPTH
from drcli.recipe.problems import ABSENT, MAPPING, Problem, keys_of, problems_in, refusal
from drcli.recipe.schema import RELEARN, Recipe, Training
from drcli.recipe.source import read_source, split_path
from drcli.recipe.text import Key, walk
from drcli.recipe.training import Cosine, Linear, Sgd
from drcli.registry import Registry, known
from drcli.relearning.settings import StrengthSettings, unfit_slopes

Model = TypeVar("Model", bound=BaseModel)

# Control characters, stray surrogates and the marks that YAML takes for line ends.
_UNFIT_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_LARGEST = 2**63 - 1

GRAPHS = "reduce-overhead"


class Checker:
    """Looks at the blocks of one recipe's plain data and collects what is wrong.

    Args:
        data: the recipe's plain data.

    Attributes:
        problems: all that was found so far.
    """

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.problems: list[Problem] = []

    def add(self, key: Key, message: str, value: Any = ABSENT) -> None:
        """Note a problem."""
        self.problems.append(Problem(key, message, value))

    def block(self, key: Key) -> dict[str, Any] | None:
        """Return the block at `key`, {} where there is none; None, and a problem, if it is not a block."""
        value: Any = self.data
        for part in key:
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.add(key, MAPPING, value)
            return None
        return value

    def settings(self, model: type[Model], key: Key, besides: Sequence[str] = ()) -> Model | None:
        """Return the validated settings of a block; None, and its problems, if it is not valid.

        Args:
            model: describes the block.
            key: of the block; an absent block is an empty one.
            besides: keys of the block that are looked at elsewhere.
        """
        block = self.block(key)
        if block is None:
            return None
        own = {name: value for name, value in block.items() if name not in besides}
        try:
            # As JSON because pydantic is strict there as a reader of YAML wants it: "5" and true are no
            # numbers, 1 is a float where one is asked for, and a list may become a tuple.
            return model.model_validate_json(json.dumps(own), strict=True, by_alias=True, by_name=False)
        except ValidationError as error:
            self.problems += problems_in(error, model, own, key, besides)
            return None

    def pick(self, key: Key, kind: str, names: Iterable[str], default: str | None = None) -> str | None:
        """Return the name at `key` if it is one of `names`; None, and a problem, if it is not.

        Args:
            key: of the name.
            kind: what it names, in the singular ("backbone").
            names: the known names.
            default: taken where the key is absent.
        """
        block = self.block(key[:-1])
        if block is None:
            return None
        name = block.get(str(key[-1]), default)
        names = list(names)
        if isinstance(name, str) and name in names:
            return name
        if key[-1] not in block:
            # A default that is not known is a label: the problem is the label's.
            at, message = (key, "required") if name is None else (key[:-1], f"unknown {kind} {name!r}")
            self.add(at, f"{message}; {known(str(name or ''), names)}")
        elif isinstance(name, str):
            self.add(key, f"unknown {kind}; {known(name, names)}", name)
        else:
            self.add(key, f"must be the name of a {kind}; {known('', names)}", name)
        return None

    def load(self, key: Key, registry: Registry, default: str | None = None) -> tuple[str, Any] | None:
        """Return the name at `key` and the class of that name; None, and a problem, if there is none."""
        name = self.pick(key, registry.kind, registry.names(), default)
        if name is None:
            return None
        try:
            return name, registry.load(name)
        except UsageError as error:  # somebody else's package does not import
            self.add(key, str(error), name)
            return None

    def configured(
        self, key: Key, selector: str, registry: Registry, default: str | None = None, besides: Sequence[str] = ()
    ) -> tuple[str, BaseModel] | None:
        """Return name and settings of a block that names a class (`backbone: ...`) beside its settings.

        Keys in `besides` are looked at elsewhere.
        """
        found = self.load((*key, selector), registry, default)
        if found is None:
            return None
        settings = self.settings(found[1].Settings, key, (selector, *besides))
        return None if settings is None else (found[0], settings)

    def sharing(
        self, key: Key, selector: str, registry: Registry, models: Sequence[type[BaseModel]], default: str | None = None
    ) -> tuple[Any, ...] | None:
        """Return name and settings of a block that names a class, and those of other models that share the block.

        Each looks at its own keys; where the class has a key of the same name, it is the class's.
        """
        found = self.load((*key, selector), registry, default)
        if found is None:
            return None
        name, owner = found
        taken = set(keys_of(owner.Settings))
        keys = [[field for field in keys_of(model) if field not in taken] for model in models]
        settings = self.settings(owner.Settings, key, (selector, *chain(*keys)))
        given = self.block(key) or {}
        others = [
            self.settings(model, key, [field for field in given if field not in own])
            for model, own in zip(models, keys, strict=True)
        ]
        return None if settings is None or any(other is None for other in others) else (name, settings, *others)


def validate_settings(model: type[Model], data: Mapping[str, Any], *, where: str) -> Model:
    """Return the validated settings of one block without a recipe around it, for commands without a recipe.

    Args:
        model: describes the block.
        data: its plain data.
        where: names the block in the message.

    Raises:
        RecipeError: a key is unknown, or a value is not allowed; one message with all problems.
    """
    problems = list(unfit(data))
    if problems:
        raise refusal(where, problems, {})
    checker = Checker(dict(data))
    settings = checker.settings(model, ())
    problems = [*checker.problems, *excessive(data, checker.problems)]
    if settings is None or problems:
        raise refusal(where, problems, {})
    return settings


def unfit(data: Any) -> Iterator[Problem]:
    """Yield what no recipe may hold anywhere: other types than plain ones, control characters."""
    for key, value in walk(data):
        if len(key) > MAX_DEPTH:
            yield Problem(key[:1], f"nested more than {MAX_DEPTH} levels deep")
            return
        if isinstance(value, dict):
            names = (name for name in value if not _is_clean(name))
            yield from (Problem(key, f"a key must be printable text, not {name!a}") for name in names)
        elif isinstance(value, str) and not _is_clean(value):
            yield Problem(key, f"must not hold control characters: {value!a}")
        elif not isinstance(value, list | tuple | str | int | float | None):
            yield Problem(key, f"must be a string, a number, true, false or null, not {type(value).__name__}")


def excessive(data: Any, reported: Iterable[Problem]) -> Iterator[Problem]:
    """Yield numbers that no setting takes: infinite, not a number, or beyond 64 bits.

    Args:
        data: plain data.
        reported: problems that are known already; their keys are left out.
    """
    known_keys = {problem.key for problem in reported}
    for key, value in walk(data):
        if key in known_keys:
            continue
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(key, "must be a finite number", value)
        elif isinstance(value, int) and abs(value) > _LARGEST:
            yield Problem(key, "is too large a number", value)


def _is_clean(text: object) -> bool:
    return isinstance(text, str) and not _UNFIT_TEXT.search(text)


def conflicts(recipe: Recipe, labels: Sequence[str]) -> Iterator[Problem]:
    """Yield values that are valid alone and not together.

    Args:
        recipe: its blocks are valid, each by itself.
        labels: the methods that are checked against the rest.
    """
    data = recipe.to_dict()
    for path, message in [
        *_of_task(recipe, labels),
        *_of_training(recipe.training),
        *_of_rates(recipe, recipe.training),
        *_of_pairs(recipe),
        *_of_own_training(recipe, labels),
        *_of_backbones(recipe),
        *_of_weights(recipe),
        *_of_parts(recipe),
        *_of_fusion(recipe, labels),
        *_of_methods(recipe, labels),
    ]:
        key = split_path(data, path)
        value: Any = data
        for part in key:
            value = value.get(part, ABSENT) if isinstance(value, dict) else ABSENT
        yield Problem(key, message, value)


def _of_task(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check that data, loss, diagnoses and methods are for what the recipe predicts."""
    held = DATASETS.load(recipe.dataset.name).task(recipe.dataset.prepare)
    if held != recipe.task:
        has = "a real value" if held == "regression" else "classes"
        wrong = f"dataset {recipe.dataset.name} holds {has} with this dataset.prepare: set task: {held}"
        yield "task", f"{wrong}, or prepare another target (cmu_mosi has target: score, and nonneg, pos and seven)"
    if recipe.task == "classification":
        if recipe.loss is not None:
            yield "loss", "belongs to task: regression; leave it out"
        return
    if recipe.diagnosis.monitor_every > 0:
        yield (
            "diagnosis.monitor_every",
            "purity compares clusters with classes, and task: regression has none; set it to 0",
        )
    for label in labels:
        block = recipe.methods[label]
        if recipe.task not in METHODS.load(block.method).tasks:
            able = ", ".join(name for name in METHODS.names() if recipe.task in METHODS.load(name).tasks)
            yield f"methods.{label}", f"{block.method} needs classes, and task: regression has none; choose of {able}"
        elif block.relearn is not None:
            yield f"methods.{label}.{RELEARN}", "purity compares clusters with classes, and task: regression has none"


def _of_pairs(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """What a dataset's setting `pool` shows; of others, the prepared dataset tells whether it has rows to pair."""
    if recipe.training.pairs == "each_epoch" and getattr(recipe.dataset.prepare, "pool", None) == 0:
        yield "training.pairs", "needs rows to pair: dataset.prepare.pool must be null or greater than 0"


def _of_training(training: Training) -> Iterator[tuple[str, str]]:
    optimizer, schedule = training.optimizer, training.schedule
    if isinstance(optimizer, Sgd) and optimizer.nesterov and optimizer.momentum == 0:
        yield "training.optimizer.nesterov", "needs momentum greater than 0"
    if isinstance(schedule, Cosine) and schedule.warmup_epochs >= training.epochs:
        yield "training.schedule.warmup_epochs", f"must be less than training.epochs, {training.epochs}"
    if isinstance(schedule, Linear | Cosine) and schedule.warmup >= training.epochs:
        yield "training.schedule.warmup", f"must be less than training.epochs, {training.epochs}"
    if isinstance(schedule, Cosine) and schedule.warmup and schedule.warmup_epochs:
        yield (
            "training.schedule.warmup_epochs",
            "leave it out: warmup says how long the warm-up is",
        )
    if training.accumulate > 1 and training.batch_size < 2 * training.accumulate:
        yield (
            "training.accumulate",
            "must leave parts of two rows or more: at most batch_size / 2",
        )
    if training.compile == GRAPHS and training.accumulate > 1:
        yield "training.compile", "CUDA graphs write each part's gradients over the last one's; use default"


def _of_rates(recipe: Recipe, training: Training) -> Iterator[tuple[str, str]]:
    """Check that learning rates are of parts of the model."""
    parts = recipe.part_rates()
    if any(part not in parts for part in training.rates):
        yield "training.rates", f"must name parts of the model: {', '.join(parts)}"


def _of_own_training(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check methods that are trained otherwise than the recipe says for all."""
    for label in labels:
        found = recipe.methods[label].training
        problems = () if found is None else (*_of_training(found), *_of_rates(recipe, found))
        yield from ((f"methods.{label}.{path}", message) for path, message in problems)


def _of_backbones(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Check what the settings of a backbone name beside the recipe: packages, models, classes."""
    for m, block in recipe.modalities.items():
        try:
            problems = list(BACKBONES.load(block.backbone).check(block.settings))
        except UsageError as error:  # a package is not installed
            problems = [("backbone", str(error))]
        yield from ((f"modalities.{m}.{key}", message) for key, message in problems)


def _of_weights(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Check weights that a recipe names against the backbone; files are looked at once they are needed."""
    for m, block in recipe.modalities.items():
        problem = block.input.weights and BACKBONES.load(block.backbone).check_weights(block)
        if problem:
            yield f"modalities.{m}.weights", problem


def _of_parts(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Check how encoders are trained against the backbones, and against what compiles them."""
    for m, block in recipe.modalities.items():
        if block.training.checkpointing and recipe.training.compile != "off":
            yield f"modalities.{m}.checkpointing", "torch.compile decides itself what is computed again; leave it out"
        problem = block.training.lora and BACKBONES.load(block.backbone).check_lora(block)
        if problem:
            yield f"modalities.{m}.lora", problem


def _of_fusion(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check the fusion against the encoders, unless every method trains them one by one."""
    fusion = FUSIONS.load(recipe.fusion.name)
    if labels and all(METHODS.load(recipe.methods[label].method).per_modality for label in labels):
        return
    if not _within(len(recipe.modalities), fusion.num_modalities):
        yield "fusion.name", f"takes {_range(fusion.num_modalities)}, the recipe has {len(recipe.modalities)}"
        return
    if recipe.training.compile == GRAPHS and not fusion.graphs:
        yield "training.compile", f"CUDA graphs overwrite the averages that {recipe.fusion.name} keeps; use default"
    encoders = sketches(recipe)
    if None not in encoders.values():  # building the model will tell of a backbone that gives no sketch
        yield from fusion.check(recipe.fusion.settings, encoders)


def _of_methods(recipe: Recipe, labels: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Check methods against the recipe of their run: modalities, what the fusion provides, and their own `check`."""
    fusion = recipe.fusion
    provided = FUSIONS.load(fusion.name).provides | {TEACHERS}
    for label in labels:
        block = recipe.methods[label]
        method = METHODS.load(block.method)
        key = f"methods.{label}"
        if not _within(len(recipe.modalities), method.num_modalities):
            yield key, f"{block.method} takes {_range(method.num_modalities)}, the recipe has {len(recipe.modalities)}"
        for needed in sorted(method.requires - provided):
            able = [name for name in FUSIONS.names() if needed in FUSIONS.load(name).provides]
            yield key, f"{block.method} needs a fusion with {needed}: fusion={' or '.join(able)}, not {fusion.name}"
        yield from _of_slopes(recipe, label)
        if block.relearn is not None and (reason := unfit_for_relearning(method)):
            yield f"{key}.{RELEARN}", f"{block.method} {reason}; leave it out"
        yield from method.check(recipe.for_run(label, recipe.seeds[0]))


def _of_slopes(recipe: Recipe, label: str) -> Iterator[tuple[str, str]]:
    """Check slopes of re-learning that are given by modality."""
    block = recipe.methods[label]
    places = {f"methods.{label}.lambda": block.settings, f"methods.{label}.{RELEARN}.lambda": block.relearn}
    for key, settings in places.items():
        if isinstance(settings, StrengthSettings) and (problem := unfit_slopes(settings.lambda_, recipe.modalities)):
            yield key, problem


def sketches(recipe: Recipe) -> dict[str, Any]:
    """Return an encoder of each modality, {m: module}, that shows its weights and widths; None where it shows none."""
    return {m: BACKBONES.load(block.backbone).sketch(block.settings) for m, block in recipe.modalities.items()}


def unfit_for_relearning(method: Any) -> str:
    """Return why no `relearn:` block can be put on a method, as a clause that follows its name; empty if one can."""
    return str(method.relearn_reason) if method.trains else "trains no encoder"


def _within(count: int, bounds: tuple[int, int | None]) -> bool:
    low, high = bounds
    return low <= count and (high is None or count <= high)


def _range(bounds: tuple[int, int | None]) -> str:
    low, high = bounds
    if high is None:
        return f"{low} modalities or more"
    return f"{low} modalities" if low == high else f"{low} to {high} modalities"


def validated(path: Path, model: type[Model], **absent: Any) -> Model:
    """Return the validated content of a YAML file.

    Args:
        path: the file.
        model: describes it as a whole.
        absent: values of keys that the file may leave out, as plain data.

    Raises:
        RecipeError: the file cannot be read or is not valid; all problems are in the one message, with line,
            dotted key, value and what is allowed.
    """
    source = read_source(path)
    checker = Checker({**absent, **source.data})
    checker.problems += [*source.problems, *unfit(checker.data)]
    found = None if checker.problems else checker.settings(model, ())
    checker.problems += excessive(checker.data, checker.problems)
    if found is None or checker.problems:
        raise refusal(source.where, checker.problems, source.places)
    return found
