"""The runs below some folders, read back from their files: what every table and figure is made of.

Here, too, is what differs between the runs of one recipe beside methods and seeds. Imports no torch, so that a
report of many runs starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from drcli.errors import DamagedError, DataError, UsageError
from drcli.names import METHODS
from drcli.recipe.load import identity_of
from drcli.recipe.schema import RELEARN
from drcli.recipe.text import dotted, excerpt, leaves
from drcli.runs.conditions import Conditions
from drcli.runs.directory import RESTORING, RunDirectory
from drcli.runs.outputs import StoredOutputs
from drcli.runs.records import Environment, EpochRecord, Event, Failure, RunRecipe, Summary
from drcli.task import TASKS, Task

MOST_NAMED = 6  # runs that a sentence lists
_FOLDERS = "give the folders that `drcli train` wrote to"

MOST_KEYS = 3
# What is compared; what changes no weights; and the fusion, which unimodal runs do not have.
_LEFT_OUT = {"name", "method", "methods", "seeds", "diagnosis", "monitor", "fusion"}
_ABSENT = object()
_MACHINE = ("device", "accelerator", "threads", "torch", "drcli")


@dataclass(frozen=True)
class RunRecord:
    """One run directory, read.

    Attributes:
        folder: the run directory.
        recipe: the resolved recipe of its one label and one seed.
        environment: versions, device, threads, command.
        summary: test scores; None while the run is unfinished.
        modality: the modality of a unimodal run, else None.
    """

    folder: Path
    recipe: RunRecipe
    environment: Environment
    summary: Summary | None
    modality: str | None

    @classmethod
    def read(cls, folder: Path, *, remedy: str = RESTORING) -> RunRecord:
        """Return the run of a folder.

        Args:
            folder: the run directory.
            remedy: what to do about a damaged file, for messages.

        Raises:
            DataError: a file is damaged, or its scores are those of another run.
        """
        files = RunDirectory(folder, remedy=remedy)
        recipe, summary = files.recipe(), files.summary()
        if summary is not None and not _belongs(summary, recipe):
            raise DamagedError(f"{folder}: its scores are of another run than its recipe; {remedy}")
        modality = _modality_of_folder(folder, recipe) if summary is None else summary.modality
        return cls(folder, recipe, files.environment(), summary, modality)

    @property
    def files(self) -> RunDirectory:
        """Its files."""
        return RunDirectory(self.folder, remedy=RESTORING)

    @property
    def recipe_name(self) -> str:
        """Name of the recipe, which is also the folder of its runs."""
        return self.recipe.name

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.recipe.dataset.name

    @property
    def label(self) -> str:
        """Label of the method in the recipe."""
        return self.recipe.method

    @property
    def method(self) -> str:
        """Name of the method in the registry; a label may be another."""
        return str(self.recipe.settings.get("method", self.label))

    @property
    def relearning(self) -> Mapping[str, Any] | None:
        """The settings by which its encoders are re-learned: `relearn:` of its block, or that of D&R; else None."""
        settings = self.recipe.settings
        own = settings if self.method == "diagnose_relearn" else None
        found: Mapping[str, Any] | None = settings.get(RELEARN, own)
        return found

    @property
    def name(self) -> str:
        """Name in tables: the label, or "label:modality" where it trains one modality."""
        return name_in_tables(self.label, self.modality)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model is made of: all modalities of the recipe, or the one of a unimodal run."""
        return tuple(self.recipe.modalities) if self.modality is None else (self.modality,)

    @property
    def seed(self) -> int:
        """The seed."""
        return self.recipe.seeds[0]

    @property
    def done(self) -> Summary:
        """The scores of a run that is finished."""
        assert self.summary is not None
        return self.summary

    @property
    def task(self) -> Task:
        """What it predicts, and the scores that it has."""
        return TASKS[self.recipe.task]

    @property
    def score(self) -> float:
        """Test accuracy of a finished run, a fraction, or its MAE."""
        return self.done.test.first

    def epochs(self) -> list[EpochRecord]:
        """Return the epochs that are done; see `RunDirectory.epochs`."""
        return self.files.epochs()

    def events(self) -> list[Event]:
        """Return the diagnoses; see `RunDirectory.events`."""
        return self.files.events()

    def outputs(self) -> StoredOutputs | None:
        """Return what the model gave for the test split, where it was kept; see `RunDirectory.outputs`."""
        return self.files.outputs()

    def conditions(self) -> Conditions | None:
        """Return the scores of the selected epoch without modalities and under noise, where they were measured."""
        found = self.files.conditions()
        return found if found is not None and found.epoch == self.done.selected_epoch else None

    def failure(self) -> Failure | None:
        """Return what ended the run; see `RunDirectory.failure`."""
        return self.files.failure()


def _belongs(summary: Summary, recipe: RunRecipe) -> bool:
    """Whether scores are of a recipe's label, seed and modalities."""
    modality = summary.modality
    return (summary.method, summary.seed) == (recipe.method, recipe.seeds[0]) and (
        modality is None or modality in recipe.modalities
    )


def name_in_tables(label: str, modality: str | None) -> str:
    """Return a run's name in tables: its label, or "label:modality" where it trains one modality."""
    return label if modality is None else f"{label}:{modality}"


def collect(folders: Iterable[Path]) -> list[RunRecord]:
    """Return the runs at or below the folders, by recipe, label (in the recipe's order), modality, seed.

    Raises:
        UsageError: a folder holds no run, or two runs are of the same recipe, label, modality and seed.
        DataError: a folder is not there, or a file of a run is damaged or lacks what it should hold.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; {_FOLDERS}")
        below = RunDirectory.below(folder)
        if not below:
            raise UsageError(f"{folder}: no run here or below; {_FOLDERS}")
        found |= {path.resolve(): path for path in below}
    runs = [RunRecord.read(path) for path in found.values()]
    labels = {recipe: _labels(group) for recipe, group in by_recipe(runs).items()}
    runs.sort(key=lambda run: _place(run, labels[run.recipe_name]))
    _refuse_doubles(runs)
    return runs


def finished(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the runs that have test scores, order kept."""
    return [run for run in runs if run.summary is not None and run.summary.tested is not None]


def by_recipe(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs by the name of their recipe, order kept."""
    return _grouped(runs, lambda run: run.recipe_name)


def by_variant(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs by the variant of their recipe: "noisy" of `digits-noisy`, "" of `digits`; order kept."""
    return _grouped(runs, lambda run: run.recipe_name.partition("-")[2])


def by_name(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs of one recipe by their name in tables, order kept."""
    return _grouped(runs, lambda run: run.name)


def by_label(runs: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Return the runs of one recipe by their label, order kept."""
    return _grouped(runs, lambda run: run.label)


def named(runs: Iterable[RunRecord], among: Iterable[RunRecord]) -> str:
    """Return in words which of one recipe's runs these are: "joint, pmr seed 2 and agm".

    A seed is said where the name has others that are not among them.
    """
    everyone = by_name(among)
    parts = [
        part
        for name, group in by_name(runs).items()
        for part in ([name] if len(group) == len(everyone[name]) else [f"{name} seed {run.seed}" for run in group])
    ]
    more = len(parts) - MOST_NAMED
    shown = parts if more <= 1 else [*parts[:MOST_NAMED], f"{more} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))


def _grouped(runs: Iterable[RunRecord], key: Callable[[RunRecord], str]) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _labels(runs: Sequence[RunRecord]) -> list[str]:
    """Return the labels of one recipe's runs in the recipe's order, as the run noted it that knows most of them.

    Where none did, and for labels that it does not know, methods come in the registry's order.
    """
    noted = max((run.environment.labels for run in runs), key=len)
    order = METHODS.names()
    others = {run.label: order.index(run.method) if run.method in order else len(order) for run in runs}
    return [*noted, *sorted(others.keys() - set(noted), key=lambda label: (others[label], label))]


def _place(run: RunRecord, labels: Sequence[str]) -> tuple[str, int, int, int]:
    modalities = list(run.recipe.modalities)
    modality = modalities.index(run.modality) if run.modality in modalities else 0
    return run.recipe_name, labels.index(run.label), modality, run.seed


def _refuse_doubles(runs: Sequence[RunRecord]) -> None:
    seen: dict[tuple[str, str, int], RunRecord] = {}
    for run in runs:
        other = seen.setdefault((run.recipe_name, run.name, run.seed), run)
        if other is not run:
            raise UsageError(
                f"{run.folder}: {run.recipe_name} {run.name} seed {run.seed} is in {other.folder} already; "
                "report the folders apart, or train one of them with another name=NAME"
            )


def _modality_of_folder(folder: Path, recipe: RunRecipe) -> str | None:
    """The modality of an unfinished run: only its folder, `<label>/<modality>/seed<k>`, tells."""
    parent = folder.resolve().parent
    return parent.name if parent.name in recipe.modalities and parent.parent.name == recipe.method else None


def unequal(runs: Sequence[RunRecord]) -> str:
    """Return a sentence on what else differs between runs of one recipe, "" where nothing does.

    They can come from commands with other KEY=VALUE, from data prepared anew, or from another machine. The
    sentence reads "Not all else is equal in digits: training.epochs is 60 in joint, 5 in pmr."
    """
    found = list(_differing(runs, _shared))
    found += _differing(
        [run for run in runs if run.modality is None], lambda run: {"fusion": _plain(run).get("fusion")}
    )
    for group in by_label(runs).values():
        found += _differing(group, lambda run: {"methods": run.recipe.methods})
    found += _other_machines(runs)
    if not found:
        return ""
    more = [f"and {len(found) - MOST_KEYS} more"] if len(found) > MOST_KEYS else []
    return f"Not all else is equal in {runs[0].recipe_name}: {'; '.join([*found[:MOST_KEYS], *more])}."


def _shared(run: RunRecord) -> dict[str, Any]:
    """What the runs of a recipe have in common: where the data lies does not matter, which it is does."""
    found = {key: value for key, value in _plain(run).items() if key not in _LEFT_OUT}
    return found | {"dataset_fingerprint": run.environment.dataset_fingerprint[:16]}


def _plain(run: RunRecord) -> dict[str, Any]:
    return identity_of(run.recipe.plain())


def _other_machines(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yield what differs in machine and versions, among the runs that noted it: a CPU has no accelerator."""
    for key in _MACHINE:
        view = partial(_noted, key)
        yield from _differing(list(filter(view, runs)), view)


def _noted(key: str, run: RunRecord) -> dict[str, Any]:
    noted = {**run.environment.machine(), **run.environment.packages}
    return {key: noted[key]} if noted.get(key) is not None else {}


def _differing(runs: Sequence[RunRecord], view: Callable[[RunRecord], Mapping[str, Any]]) -> Iterator[str]:
    """Yield each key whose value is not the same in all runs, with its values."""
    flat = [dict(leaves(view(run))) for run in runs]
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, _ABSENT) for one in flat]
        if any(value != values[0] for value in values):
            yield f"{dotted(key)} is {_values(runs, values)}"


def _values(runs: Sequence[RunRecord], values: Sequence[Any]) -> str:
    """Return "60 in joint, 5 in pmr", the commonest value first."""
    groups: dict[str, list[RunRecord]] = {}
    for run, value in zip(runs, values, strict=True):
        groups.setdefault("absent" if value is _ABSENT else excerpt(value), []).append(run)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{text} in {_where(group, runs)}" for text, group in ordered)


def _where(group: Sequence[RunRecord], runs: Sequence[RunRecord]) -> str:
    several = len(by_label(group)) > 1
    return "most" if several and 2 * len(group) > len(runs) else named(group, runs)


def speeds(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield label and seconds per epoch of the finished runs below a folder; damaged ones are left out."""
    for path in RunDirectory.below(folder):
        try:
            summary = RunDirectory(path).summary()
        except DataError:  # which the run itself will refuse
            continue
        if summary is not None:  # an ensemble of trained encoders has no epochs
            yield summary.method, summary.seconds / summary.epochs if summary.epochs else 0.0
