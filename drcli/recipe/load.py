"""From a recipe file, its overrides or a checkpoint's plain data to a validated `Recipe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from drcli.data.input import Corruption, InputSettings
from drcli.diagnosis.settings import DiagnosisSettings
from drcli.errors import RecipeError
from drcli.names import BACKBONES, DATASETS, FUSIONS, METHODS
from drcli.recipe.problems import MAPPING, Problem, keys_of, refusal
from drcli.recipe.schema import (
    LOG,
    RELEARN,
    TRAINING,
    DatasetBlock,
    DatasetScalars,
    FusionBlock,
    MethodBlock,
    ModalityBlock,
    Recipe,
    RecipeScalars,
    Training,
    TrainingScalars,
    named,
)
from drcli.recipe.search import checked_search
from drcli.recipe.source import Override, Source, apply_overrides, parse_overrides, read_source
from drcli.recipe.text import Key, excerpt
from drcli.recipe.training import OPTIMIZERS, SCHEDULES, EncoderTraining, FusionTraining
from drcli.recipe.validate import Checker, conflicts, excessive, unfit
from drcli.registry import known
from drcli.relearning.settings import RelearnSettings

Settings = TypeVar("Settings", bound=BaseModel)
Labels = Callable[[Recipe], Sequence[str]]

BLOCKS = ("dataset", "modalities", "corrupt", "fusion", "methods", "training", "diagnosis", "search")
"""Keys of a recipe that hold a block of their own."""

# `--method all` means every label. The parameters of the fusion are a group beside the modalities', its loss
# and its weight are named "joint" beside theirs.
_RESERVED_LABEL = "all"
_RESERVED_MODALITIES = ("fusion", "joint")


def only(*labels: str) -> Labels:
    """Say that these methods are used, whatever the recipe holds."""
    return lambda _: labels


def load_recipe(path: Path, overrides: Sequence[str] = (), labels: Labels | None = None) -> Recipe:
    """Return the validated recipe of a file, with KEY=VALUE overrides set first.

    Args:
        path: the file.
        overrides: KEY=VALUE.
        labels: which methods must fit fusion and modalities, given the recipe; by default all. Unused methods
            need not fit: a recipe may be used with a fusion that some of its methods refuse.

    Raises:
        RecipeError: the file or an override cannot be read, or the recipe has problems; all of them are
            in the one message, with line, dotted key, value and what is allowed.
    """
    return load_source(path, overrides, labels)[0]


def load_source(path: Path, overrides: Sequence[str] = (), labels: Labels | None = None) -> tuple[Recipe, Source]:
    """Return the validated recipe of a file, and the plain data and places that it was made of.

    Raises:
        RecipeError: as `load_recipe`.
    """
    source = _without_shorthand(read_source(path))
    source = apply_overrides(source, [_written_out(override) for override in parse_overrides(overrides)])
    source = replace(source, data={"name": path.stem, **source.data})
    return _validated(source, labels), source


def recipe_from_dict(raw: Any, *, where: str) -> Recipe:
    """Return the validated recipe of plain data, such as `Recipe.to_dict` gave.

    Args:
        raw: the data, from a checkpoint.
        where: names it in messages.

    Raises:
        RecipeError: it is not a valid recipe; one message with all problems.
    """
    if not isinstance(raw, dict):
        raise refusal(where, [Problem((), f"{MAPPING}; it is {excerpt(raw)}")], {})
    return _validated(_without_shorthand(Source(where, raw, {})))


def with_defaults(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recipe's plain data, with the defaults of settings that the drcli which wrote it did not have.

    Where it is not valid it is returned as it is. A new setting's default is what was done before there was one.
    """
    try:
        return recipe_from_dict(raw, where="").to_dict()
    except RecipeError:
        return raw


def _validated(source: Source, labels: Labels | None = None) -> Recipe:
    unusable = list(unfit(source.data))
    if unusable:
        raise refusal(source.where, [*source.problems, *unusable], source.places)
    checker = Checker(source.data)
    checker.problems += source.problems
    recipe = _assemble(checker)
    checker.problems += excessive(source.data, checker.problems)
    if recipe is not None and not checker.problems:
        checker.problems += conflicts(recipe, list(recipe.methods) if labels is None else labels(recipe))
    if recipe is None or checker.problems:
        raise refusal(source.where, [_pointed(problem, source.data) for problem in checker.problems], source.places)
    return recipe


def _pointed(problem: Problem, data: Mapping[str, Any]) -> Problem:
    """Say of an unknown key where it belongs, if one key of its name is known: of lr, training.optimizer.lr."""
    if not problem.message.startswith("unknown key"):
        return problem
    found = [path for path in _training_keys(data) if path.rpartition(".")[2] == problem.key[-1]]
    if len(found) != 1:
        return problem
    return replace(problem, message=f"{problem.message.partition(' Did you mean')[0]} Did you mean {found[0]}?")


def _training_keys(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted keys of what many look for in other blocks: training, its optimiser and schedule, diagnosis."""
    training = data.get("training")
    yield from (f"training.{key}" for key in keys_of(TrainingScalars))
    yield from (f"diagnosis.{key}" for key in keys_of(DiagnosisSettings))
    for block, variants, default in (("optimizer", OPTIMIZERS, "sgd"), ("schedule", SCHEDULES, "constant")):
        yield f"training.{block}"
        chosen = training.get(block) if isinstance(training, Mapping) else None
        name = chosen.get("name") if isinstance(chosen, Mapping) else None
        model = variants.get(name if isinstance(name, str) else default)
        yield from (f"training.{block}.{key}" for key in (keys_of(model) if model is not None else ()) if key != "name")


def _written_out(override: Override) -> Override:
    """Write `fusion=mmtm` out as `fusion={name: mmtm}`, so that `fusion.stages=2` may follow."""
    shorthand = override.path == "fusion" and isinstance(override.value, str)
    return Override("fusion", {"name": override.value}) if shorthand else override


def _without_shorthand(source: Source) -> Source:
    """Write `fusion: concat` out as `fusion: {name: concat}`."""
    fusion = source.data.get("fusion")
    if not isinstance(fusion, str):
        return source
    places = dict(source.places)
    if ("fusion",) in places:
        places["fusion", "name"] = places["fusion",]
    return replace(source, data={**source.data, "fusion": {"name": fusion}}, places=places)


def _assemble(checker: Checker) -> Recipe | None:
    """Check every block, even where another is wrong; None if any is not valid."""
    top = checker.settings(RecipeScalars, (), BLOCKS)
    dataset = _dataset(checker)
    modalities, corrupt = _modalities(checker), _corrupt(checker)
    fusion = checker.sharing(("fusion",), "name", FUSIONS, (FusionTraining,), default="concat")
    methods = _methods(checker)
    training = _training(checker)
    diagnosis = checker.settings(DiagnosisSettings, ("diagnosis",))
    search = checked_search(checker)
    if top is None or dataset is None or modalities is None or corrupt is None or fusion is None:
        return None
    if methods is None or training is None or diagnosis is None:
        return None
    methods = _with_own_training(checker, methods)
    dataset = _with_waveform_noise(checker, dataset, corrupt)
    return Recipe(
        name=top.name,
        dataset=dataset,
        modalities=modalities,
        corrupt=corrupt,
        fusion=FusionBlock(*fusion),
        method=top.method,
        methods=methods,
        training=training,
        diagnosis=diagnosis,
        selection=top.selection,
        monitor=top.monitor,
        seeds=top.seeds,
        search=search,
        log=top.log,
        task=top.task,
        loss=top.loss or ("l1" if top.task == "regression" else None),
    )


def _dataset(checker: Checker) -> DatasetBlock | None:
    found = checker.load(("dataset", "name"), DATASETS)
    scalars = checker.settings(DatasetScalars, ("dataset",), besides=("name", "prepare"))
    if found is None or scalars is None:
        return None
    name, preparer = found
    prepare = checker.settings(preparer.Settings, ("dataset", "prepare"))
    return None if prepare is None else DatasetBlock(name, Path(scalars.root or f"data/{name}"), prepare)


def _modalities(checker: Checker) -> dict[str, ModalityBlock] | None:
    names = checker.block(("modalities",))
    if names == {}:
        checker.add(("modalities",), "required: at least one, such as {audio: {backbone: resnet_small}}")
    blocks = {}
    for m in names or ():
        key = ("modalities", m)
        _check_name(checker, key)
        if "." in m or m in _RESERVED_MODALITIES:
            checker.add(key, "the name of a modality must have no dot, and must not be 'fusion' or 'joint'")
        elif m in RESERVED_BY_TORCH:
            checker.add(key, "reserved by PyTorch; rename the modality")
        block = _modality(checker, key)
        if block is not None:
            blocks[m] = block
    return blocks or None


def _modality(checker: Checker, key: Key) -> ModalityBlock | None:
    """One block holds the settings of the backbone, of the input and of the training."""
    found = checker.sharing(key, "backbone", BACKBONES, (InputSettings, EncoderTraining))
    return None if found is None else ModalityBlock(*found)


def _corrupt(checker: Checker) -> dict[str, Corruption] | None:
    names = checker.block(("corrupt",))
    modalities = checker.block(("modalities",)) or {}
    blocks = {}
    for m in names or ():
        if m not in modalities:
            checker.add(("corrupt", m), f"not a modality of this recipe; {known(m, modalities)}")
        noise = checker.settings(Corruption, ("corrupt", m))
        if noise is not None:
            blocks[m] = noise
    return None if names is None or len(blocks) < len(names) else blocks


def _with_waveform_noise(checker: Checker, dataset: DatasetBlock, corrupt: Mapping[str, Corruption]) -> DatasetBlock:
    """Add noise on the sound, which `prepare` makes, to the settings of the preparation."""
    for m, noise in corrupt.items():
        if noise.domain == "waveform" and m != DATASETS.load(dataset.name).waveform:
            message = f"the dataset {dataset.name} has no waveform of {m} to which noise can be added; use input"
            checker.add(("corrupt", m, "domain"), message, noise.domain)
        elif noise.domain == "waveform":
            update = {"waveform_snr_db": noise.snr_db, "waveform_noise_splits": noise.splits}
            dataset = replace(dataset, prepare=dataset.prepare.model_copy(update=update))
    return dataset


def _methods(checker: Checker) -> dict[str, MethodBlock] | None:
    labels = checker.block(("methods",))
    if labels == {}:
        checker.add(("methods",), "required: at least one, such as {joint: {}}")
    blocks = {}
    for label in labels or ():
        key = ("methods", label)
        _check_name(checker, key)
        if label == _RESERVED_LABEL:
            checker.add(key, f"{_RESERVED_LABEL!r} means every label on the command line; choose another label")
        found = checker.configured(key, "method", METHODS, default=label, besides=(RELEARN, TRAINING))
        relearn = _relearn(checker, (*key, RELEARN))
        own = checker.block((*key, TRAINING)) or {}
        if found is not None:
            blocks[label] = MethodBlock(*found, relearn, own=own)
    method = checker.data.get("method")
    if labels and isinstance(method, str) and method not in labels:
        checker.add(("method",), f"must be a label of methods; {known(method, labels)}", method)
    return blocks or None


def _relearn(checker: Checker, key: Key) -> RelearnSettings | None:
    """Return the settings of the re-learning that a method's block asks for; None where it asks for none."""
    block = checker.block(key[:-1])
    if block is None or block.get(RELEARN) is None:
        return None
    return checker.settings(RelearnSettings, key)


def _training(checker: Checker) -> Training | None:
    scalars = checker.settings(TrainingScalars, ("training",), besides=("optimizer", "schedule"))
    optimizer = _variant(checker, "optimizer", OPTIMIZERS)
    schedule = _variant(checker, "schedule", SCHEDULES, default="constant")
    if scalars is None or optimizer is None or schedule is None:
        return None
    return Training(**scalars.model_dump(), optimizer=optimizer, schedule=schedule)


def _with_own_training(checker: Checker, methods: Mapping[str, MethodBlock]) -> dict[str, MethodBlock]:
    """Add to each method that has values of `training` of its own how it is trained."""
    return {
        label: replace(block, training=_own_training(checker, ("methods", label), block.own)) if block.own else block
        for label, block in methods.items()
    }


def _own_training(checker: Checker, key: Key, own: Mapping[str, Any]) -> Training | None:
    """Return how a method is trained whose block has values of its own in place of those of `training`.

    Args:
        checker: of the recipe; its `training` is valid.
        key: of the method's block.
        own: the values.
    """
    merged = Checker({TRAINING: merge(checker.block((TRAINING,)) or {}, own)})
    found = _training(merged)
    checker.problems += [replace(problem, key=(*key, *problem.key)) for problem in merged.problems]
    return found


def merge(block: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block with the values of another in it; where that names another variant, its block as it is."""
    if own.get("name", block.get("name")) != block.get("name"):
        return dict(own)
    inner = {k: merge(block[k], v) for k, v in own.items() if isinstance(v, Mapping) and isinstance(block.get(k), dict)}
    return {**block, **own, **inner}


def _variant(
    checker: Checker, kind: str, variants: Mapping[str, type[Settings]], default: str | None = None
) -> Settings | None:
    """Return the block `training.<kind>`; its `name` selects the variant."""
    key = ("training", kind)
    if checker.block(("training",)) is None:
        return None
    name = checker.pick((*key, "name"), kind, variants, default)
    return None if name is None else checker.settings(variants[name], key)


def _check_name(checker: Checker, key: tuple[str, str]) -> None:
    try:
        named(key[-1])
    except ValueError as error:
        checker.add(key, str(error))


# fmt: off
RESERVED_BY_TORCH = frozenset({
    "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "clear",
    "compile", "copy", "cpu", "cuda", "double", "dump_patches", "eval", "extend", "extra_repr", "float",
    "forward", "fromkeys", "get", "get_buffer", "get_extra_state", "get_parameter", "get_submodule", "half",
    "ipu", "items", "keys", "load_state_dict", "modules", "mtia", "named_buffers", "named_children",
    "named_modules", "named_parameters", "parameters", "pop", "popitem", "register_backward_hook",
    "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
    "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
    "register_load_state_dict_pre_hook", "register_module", "register_parameter",
    "register_state_dict_post_hook", "register_state_dict_pre_hook", "requires_grad_", "set_extra_state",
    "set_submodule", "setdefault", "share_memory", "state_dict", "to", "to_empty", "train", "training", "type",
    "update", "values", "xpu", "zero_grad",
})
# fmt: on
"""Public attributes of `nn.ModuleDict` and `nn.ParameterDict`; a test compares them with the installed PyTorch."""


def identity_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe as plain data without what makes no other run: where its curves go, and `dataset.root`.

    The fingerprint of the data says what a run was trained on.
    """
    dataset = recipe.get("dataset")
    rest = {k: v for k, v in dataset.items() if k != "root"} if isinstance(dataset, Mapping) else dataset
    return {**{k: v for k, v in recipe.items() if k != LOG}, "dataset": rest}
