"""Which runs a command asks for, and where each keeps its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from drcli.errors import UsageError
from drcli.names import FUSIONS, METHODS, TEACHERS
from drcli.recipe.schema import MAX_SEED, FusionBlock, MethodBlock, Recipe
from drcli.registry import known
from drcli.runs.collect import name_in_tables


@dataclass(frozen=True)
class PlannedRun:
    """One run: one label, one seed, and for unimodal training one modality.

    Attributes:
        recipe: the recipe restricted to this run.
        modalities: what the model is built from.
        folder: the run directory.
        modality: the modality of a unimodal run, else None.
        teachers: run directories of the unimodal runs that must be finished before, by modality.
        labels: labels of the whole recipe, in its order.
        opens_test: whether the run ends with scores of the test split. A trial of `drcli tune` does not: to it the
            split is closed, and its result is that of validation.
        floors: by epoch, the best accuracy on validation so far below which the run is stopped; none: it never is.
    """

    recipe: Recipe
    modalities: tuple[str, ...]
    folder: Path
    modality: str | None = None
    teachers: Mapping[str, Path] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    opens_test: bool = True
    floors: tuple[float, ...] = ()

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.recipe.seeds[0]

    @property
    def method(self) -> str:
        """Name of the method in the registry; the label may be another."""
        return self.recipe.methods[self.recipe.method].method

    @property
    def epochs(self) -> int:
        """How many epochs are trained: none by a method that takes no steps."""
        return self.recipe.training.epochs if METHODS.load(self.method).trains else 0

    @property
    def name(self) -> str:
        """Name in tables: the label, or "label:modality" where it trains one modality."""
        return name_in_tables(self.recipe.method, self.modality)


def plan(recipe: Recipe, labels: Sequence[str], seeds: Sequence[int], out: Path) -> list[PlannedRun]:
    """Return the runs of the labels and seeds, seed by seed within a label.

    A run is in `out/<recipe>/<label>/seed<k>`, a unimodal one in
    `out/<recipe>/<label>/<modality>/seed<k>`. Methods that start from trained encoders share one set of
    unimodal runs, which are planned before them, requested or not; one that is trained by values of its own has
    unimodal runs of its own, which are trained by these values too, in `out/<recipe>/<unimodal label>_<label>`.
    """
    runs: dict[Path, PlannedRun] = {}
    for label in labels:
        method = METHODS.load(recipe.methods[label].method)
        needed = []
        if TEACHERS in method.requires:
            with_unimodal, teacher = _with_teacher(recipe, label)
            needed = _unimodal_runs(with_unimodal, teacher, seeds, out)
        runs |= {run.folder: run for run in needed if run.folder not in runs}
        own = _unimodal_runs if method.per_modality else _joint_runs
        for run in own(recipe, label, seeds, out):
            teachers = {other.modality: other.folder for other in needed if other.seed == run.seed and other.modality}
            runs.setdefault(run.folder, replace(run, teachers=teachers))
    return [replace(run, labels=tuple(recipe.methods)) for run in runs.values()]


def _joint_runs(recipe: Recipe, label: str, seeds: Sequence[int], out: Path) -> list[PlannedRun]:
    folder = out / recipe.name / label
    return [PlannedRun(recipe.for_run(label, seed), tuple(recipe.modalities), folder / f"seed{seed}") for seed in seeds]


def _unimodal_runs(recipe: Recipe, label: str, seeds: Sequence[int], out: Path) -> list[PlannedRun]:
    """One run per modality and seed: an encoder and a linear head, whatever the recipe's fusion is."""
    recipe = replace(recipe, fusion=FusionBlock("concat", FUSIONS.load("concat").Settings()))
    folder = out / recipe.name / label
    return [
        PlannedRun(recipe.for_run(label, seed), (m,), folder / m / f"seed{seed}", modality=m)
        for m in recipe.modalities
        for seed in seeds
    ]


def _with_unimodal(recipe: Recipe) -> tuple[Recipe, str]:
    """Return the recipe with unimodal training among its methods, and its label."""
    for label, block in recipe.methods.items():
        if block.method == "unimodal":
            return recipe, label
    block = MethodBlock("unimodal", METHODS.load("unimodal").Settings())
    label = next(name for name in ("unimodal", "unimodal_", "teachers") if name not in recipe.methods)
    return replace(recipe, methods={**recipe.methods, label: block}), label


def _with_teacher(recipe: Recipe, label: str) -> tuple[Recipe, str]:
    """Return the recipe with the unimodal training that a label's teachers come from, and its label.

    A label with values of `training` of its own has teachers that are trained by these.
    """
    recipe, teacher = _with_unimodal(recipe)
    block, shared = recipe.methods[label], recipe.methods[teacher]
    if (block.training or recipe.training) == (shared.training or recipe.training):
        return recipe, teacher
    own = f"{teacher}_{label}"
    while own in recipe.methods:
        own += "_"
    methods = {**recipe.methods, own: replace(shared, training=block.training, own=block.own)}
    return replace(recipe, methods=methods), own


def split_names(asked: str | None) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the labels of `--method`, and the pairs of label and modality among them: "unimodal:audio"."""
    parts = [] if asked is None else [part.strip() for part in asked.split(",")]
    pairs = [(label, m) for label, colon, m in (part.partition(":") for part in parts) if colon]
    return (asked if not pairs else ",".join(part.partition(":")[0] for part in parts)), pairs


def of_modalities(runs: Sequence[PlannedRun], asked: str | None) -> list[PlannedRun]:
    """Return the runs of `--method`; of a label that it names with modalities only those, and what others start from.

    Raises:
        UsageError: no run has this label and modality.
    """
    _, pairs = split_names(asked)
    names = dict.fromkeys(run.name for run in runs)
    for label, m in pairs:
        if name_in_tables(label, m) not in names:
            raise UsageError(f"--method {label}:{m}: no run of this name; {known(f'{label}:{m}', names)}")
    whole = {part.strip() for part in (asked or "").split(",")}
    only = {label: {m for other, m in pairs if other == label} for label, _ in pairs if label not in whole}
    kept = [run for run in runs if run.modality is None or run.modality in only.get(run.recipe.method, {run.modality})]
    needed = teachers_of(kept)
    return [run for run in runs if run in kept or run.folder in needed]


def teachers_of(runs: Iterable[PlannedRun]) -> set[Path]:
    """Return the run directories that some of the runs start from."""
    return {folder for run in runs for folder in run.teachers.values()}


def select_labels(recipe: Recipe, asked: str | None) -> list[str]:
    """Return the labels of `--method`: a list "a,b", "all", or by default the recipe's `method`.

    Raises:
        UsageError: a label is not one of the recipe's `methods`.
    """
    if asked is None:
        return [recipe.method]
    if asked == "all":
        return list(recipe.methods)
    labels = list(dict.fromkeys(part.strip() for part in asked.split(",") if part.strip()))
    unknown = [label for label in labels if label not in recipe.methods]
    if unknown or not labels:
        name = unknown[0] if unknown else ""
        hint = f"; add it with methods.{name}={{}}" if name in METHODS.names() else ""
        raise UsageError(f"--method {asked}: not in this recipe's methods{hint}; {known(name, recipe.methods)}")
    return labels


def select_seeds(recipe: Recipe, asked: str | None, option: str = "--seeds") -> list[int]:
    """Return the seeds of `--seeds 0,1,2`, or by default the recipe's; `option` is how the command calls it.

    Raises:
        UsageError: not a list of distinct whole numbers from 0 to MAX_SEED.
    """
    if asked is None:
        return list(recipe.seeds)
    parts = [part.strip() for part in asked.split(",")]
    # Python converts no more than 4,300 digits, and what is beyond MAX_SEED no recipe stores.
    seeds = [int(part) for part in parts if part.isdecimal() and len(part) <= len(str(MAX_SEED))]
    if len(set(seeds)) < len(parts) or max(seeds) > MAX_SEED:
        shown = asked if len(asked) <= 48 else f"{asked[:45]}..."
        raise UsageError(f"{option} {shown}: must be distinct whole numbers from 0 to 2^63 - 1, such as 0,1,2")
    return seeds
