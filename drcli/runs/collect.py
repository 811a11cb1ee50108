"""The runs below some folders, read back from their files: what every table and figure is made of.

Imports no torch, so that a report of many runs starts at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from drcli.errors import DamagedError, DataError, UsageError
from drcli.names import METHODS
from drcli.runs.directory import RESTORING, RunDirectory
from drcli.runs.outputs import StoredOutputs
from drcli.runs.records import Environment, EpochRecord, Event, Failure, RunRecipe, Summary

MOST_NAMED = 6  # runs that a sentence lists
_FOLDERS = "give the folders that `drcli train` wrote to"


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
    def accuracy(self) -> float:
        """Test accuracy of a finished run, a fraction."""
        return self.done.test.accuracy

    def epochs(self) -> list[EpochRecord]:
        """Return the epochs that are done; see `RunDirectory.epochs`."""
        return self.files.epochs()

    def events(self) -> list[Event]:
        """Return the diagnoses; see `RunDirectory.events`."""
        return self.files.events()

    def outputs(self) -> StoredOutputs | None:
        """Return what the model gave for the test split, where it was kept; see `RunDirectory.outputs`."""
        return self.files.outputs()

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
    """Return the runs that have a summary, order kept."""
    return [run for run in runs if run.summary is not None]


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
