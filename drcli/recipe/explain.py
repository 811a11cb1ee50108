"""Every key of a recipe with its type, default, allowed values and meaning: what `drcli show --explain` prints.

Keys of methods, backbones, fusions and datasets are read from the `Settings` of their classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel

from drcli.bases import SEARCH
from drcli.data.input import Corruption, InputSettings
from drcli.diagnosis.settings import DiagnosisSettings
from drcli.errors import UsageError
from drcli.recipe.schema import RELEARN, TRAINING, DatasetScalars, Recipe, RecipeScalars, SearchRange, TrainingScalars
from drcli.recipe.shape import ABSENT_MEANS, Schema, Shape, schema_of
from drcli.recipe.text import spelled
from drcli.recipe.training import OPTIMIZERS, SCHEDULES, EncoderTraining, FusionTraining, Lora
from drcli.registry import Registry
from drcli.relearning.settings import RelearnSettings

REQUIRED = "required"
"""Default of a key that has none."""


@dataclass(frozen=True)
class Setting:
    """One key.

    Attributes:
        name: the key inside its section.
        kind: its type in words.
        default: what holds where the recipe leaves it out, as YAML; REQUIRED where it must not.
        allowed: which values of the type are allowed; empty for all.
        description: what it does.
    """

    name: str
    kind: str
    default: str
    allowed: str
    description: str


@dataclass(frozen=True)
class Section:
    """Keys that belong together.

    Attributes:
        path: dotted key of the block that holds them; empty for the top of the recipe.
        choice: for which choice they are known, such as "name: sgd"; empty if for every one.
        summary: what the block or the choice is.
        settings: its keys.
        model: describes them; None where they are described here.
    """

    path: str
    choice: str
    summary: str
    settings: Sequence[Setting] = ()
    model: type[BaseModel] | None = None

    def dotted(self, setting: Setting) -> str:
        """Return the whole key of a setting."""
        return f"{self.path}.{setting.name}" if self.path else setting.name


@dataclass(frozen=True)
class Registries:
    """Where the names of a recipe are looked up."""

    datasets: Registry
    backbones: Registry
    fusions: Registry
    methods: Registry


@dataclass(frozen=True)
class Scope:
    """What is explained.

    Attributes:
        datasets: those whose preparation is.
        modalities: backbones by name of a modality.
        labels: methods by label.
        relearned: labels that re-learning can be put on.
    """

    datasets: Sequence[str]
    modalities: Mapping[str, Sequence[str]]
    labels: Mapping[str, Sequence[str]]
    relearned: Sequence[str]


def everything(registries: Registries) -> Scope:
    """Return the scope of all that a recipe can hold, with <modality> and <label> for names of the user's choice."""
    backbones, methods = registries.backbones.names(), registries.methods.names()
    return Scope(registries.datasets.names(), {"<modality>": backbones}, {"<label>": methods}, ["<label>"])


def within(recipe: Recipe, registries: Registries) -> Scope:
    """Return the scope of what one recipe names; every method is in it under its own name too."""
    methods = {name: [name] for name in registries.methods.names()}
    labels = {label: [block.method] for label, block in recipe.methods.items()}
    modalities = {m: [block.backbone] for m, block in recipe.modalities.items()}
    return Scope([recipe.dataset.name], modalities, {**methods, **labels}, list(labels))


def sections(registries: Registries, scope: Scope) -> Iterator[Section]:
    """Yield all sections of a scope, in the order of a recipe."""
    yield _section("", RecipeScalars)
    yield from _dataset(registries, scope)
    yield from _modalities(registries, scope)
    yield _with_keys(_choice("fusion", "name", registries.fusions, "concat", _FUSION), FusionTraining)
    yield from _chosen("fusion", "name", registries.fusions, registries.fusions.names())
    for label, methods in scope.labels.items():
        path = f"methods.{label}"
        yield _choice(path, "method", registries.methods, "the label", "method that the label stands for")
        yield from _chosen(path, "method", registries.methods, methods)
    yield from (_section(f"methods.{label}.{RELEARN}", RelearnSettings, summary=_RELEARN) for label in scope.relearned)
    yield from (Section(f"methods.{label}.{TRAINING}", "", _OWN_TRAINING) for label in scope.relearned)
    yield from _training()
    yield _section("diagnosis", DiagnosisSettings)
    yield _section("search.<key>", SearchRange, summary=_SEARCH)


def select(found: Iterable[Section], key: str) -> list[Section]:
    """Return what a dotted key names: a setting, or all sections at and below it.

    Raises:
        UsageError: nothing has this key; the message names the keys beside it and the nearest spelling.
    """
    known = list(found)
    chosen = [part for section in known if (part := _part(section, key)) is not None]
    if not chosen:
        raise UsageError(_unknown(known, key))
    return chosen


_RELEARN = "D&R on top of the method: when encoders are pulled towards their initial weights, and how far"
_OWN_TRAINING = (
    "Values of `training` that hold for this method in place of the recipe's; the keys are those of `training`."
)
_SEARCH = (
    "Ranges that `drcli tune` searches, beside and in place of those of the methods; shaped like the recipe, such as "
    "search: {training: {optimizer: {lr: {low: 0.001, high: 0.1, log: true}}}}. A list of values in place of a range "
    "is searched too; null: the number is not searched."
)
_FUSION = "how features become logits; `fusion: concat` is short for `fusion: {name: concat}`"


def _dataset(registries: Registries, scope: Scope) -> Iterator[Section]:
    names = _choice("dataset", "name", registries.datasets, REQUIRED, "which dataset")
    own = _section("dataset", DatasetScalars)
    yield replace(own, settings=[*names.settings, *own.settings])
    yield from _chosen("dataset.prepare", "dataset.name", registries.datasets, scope.datasets)


def _modalities(registries: Registries, scope: Scope) -> Iterator[Section]:
    for m, backbones in scope.modalities.items():
        path = f"modalities.{m}"
        names = _choice(path, "backbone", registries.backbones, REQUIRED, "encoder of the modality")
        own = _with_keys(_section(path, InputSettings), EncoderTraining)
        yield replace(own, settings=[*names.settings, *own.settings])
        yield _section(f"{path}.lora", Lora)
        yield from _chosen(path, "backbone", registries.backbones, backbones)
    for m in scope.modalities:
        yield _section(f"corrupt.{m}", Corruption)


def _with_keys(section: Section, model: type[BaseModel]) -> Section:
    """Return a section with the keys of another model beside its own."""
    return replace(section, settings=[*section.settings, *_section(section.path, model).settings])


def _training() -> Iterator[Section]:
    yield _section("training", TrainingScalars)
    for kind, variants, default in (("optimizer", OPTIMIZERS, REQUIRED), ("schedule", SCHEDULES, "constant")):
        path = f"training.{kind}"
        name = Setting("name", "string", default, ", ".join(variants), f"which {kind}")
        yield Section(path, "", f"Which {kind}, and its settings.", [name])
        for variant, model in variants.items():
            yield _section(path, model, choice=f"name: {variant}", besides=("name",))


def _choice(path: str, name: str, registry: Registry, default: str, description: str) -> Section:
    """Return the section of the one key that names a class."""
    setting = Setting(name, "string", default, ", ".join(registry.names()), description)
    return Section(path, "", f"Which {registry.kind}, and its settings.", [setting])


def _chosen(path: str, selector: str, registry: Registry, names: Iterable[str]) -> Iterator[Section]:
    """Yield the sections of the classes of these names."""
    for name in names:
        choice, summary = f"{selector}: {name}", registry.summary(name)
        try:
            model = getattr(registry.load(name), "Settings", None)
        except UsageError as error:  # somebody else's package
            yield Section(path, choice, str(error))
            continue
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield _section(path, model, choice=choice, summary=summary)
        else:
            yield Section(path, choice, summary)


def _section(
    path: str, model: type[BaseModel], *, choice: str = "", summary: str | None = None, besides: Sequence[str] = ()
) -> Section:
    schema = schema_of(model)
    required = schema.get("required", ())
    settings = [
        _setting(name, own, required=name in required, tuned=path.startswith("methods."))
        for name, own in schema.get("properties", {}).items()
        if name not in besides
    ]
    words = (model.__doc__ or "").strip().partition("\n")[0] if summary is None else summary
    return Section(path, choice, words, settings, model)


def _setting(name: str, schema: Schema, *, required: bool, tuned: bool) -> Setting:
    shape = Shape.of(schema)
    default = REQUIRED if required else spelled(schema.get("default"))
    description = "; ".join(filter(None, [schema.get("description", ""), searched(schema) if tuned else ""]))
    return Setting(name, shape.kind(), schema.get(ABSENT_MEANS, default), shape.allowed(), description)


def searched(schema: Schema) -> str:
    """Return in words the range in which `drcli tune` searches a setting; empty where it does not."""
    found = schema.get(SEARCH)
    if found is None:
        return ""
    scale = " on a log scale" if found["log"] else ""
    only = "".join(f", where {name} is {spelled(value)}" for name, value in found["when"].items())
    return f"drcli tune searches {spelled(found['low'])} to {spelled(found['high'])}{scale} ({found['source']}){only}"


def _part(section: Section, key: str) -> Section | None:
    """Return what of a section a key names: all of it, one setting, or nothing."""
    if section.path == key or section.path.startswith(f"{key}."):
        return section
    own = [setting for setting in section.settings if section.dotted(setting) == key]
    return replace(section, settings=own) if own else None


def _unknown(known: Sequence[Section], key: str) -> str:
    """Say that nothing has this key, which keys are beside it, and the nearest spelling."""
    keys = list(dict.fromkeys(section.dotted(setting) for section in known for setting in section.settings))
    keys += [section.path for section in known if section.path]
    parent = key
    while parent and not any(other.startswith(f"{parent}.") for other in keys):
        parent = parent.rpartition(".")[0]
    start = f"{parent}." if parent else ""
    beside = dict.fromkeys(other[len(start) :].partition(".")[0] for other in keys if other.startswith(start))
    close = difflib.get_close_matches(key, keys, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    where = f"{parent} has" if parent else "a recipe has"
    return f"--explain {key}: unknown key; {where}: {', '.join(beside)}.{hint}"
