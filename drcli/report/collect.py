"""The runs below some folders, read back from their files: what every table and figure is made of.

Imports no torch, so that a report of many runs starts at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import BaseModel

from drcli.errors import DataError, DrcliError, UsageError
from drcli.files import parse_yaml, read_json_lines
from drcli.names import METHODS
from drcli.report import stored

RECIPE_FILE = "recipe.yaml"
MOST_NAMED = 6  # runs that a sentence lists
_REMEDY = "restore it, or leave its folder out"
_FOLDERS = "give the folders that `drcli train` wrote to"


@dataclass(frozen=True)
class RunRecord:
    """One run directory.

    Attributes:
        folder: the run directory.
        recipe: the resolved recipe of its one label and one seed.
        environment: versions, device, threads, command.
        summary: test scores; None while the run is unfinished.
        modality: the modality of a unimodal run, else None.
    """

    folder: Path
    recipe: Mapping[str, Any]
    environment: Mapping[str, Any]
    summary: Mapping[str, Any] | None
    modality: str | None

    @property
    def recipe_name(self) -> str:
        """Name of the recipe, which is also the folder of its runs."""
        return str(self.recipe["name"])

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.recipe["dataset"]["name"])

    @property
    def label(self) -> str:
        """Label of the method in the recipe."""
        return str(self.recipe["method"])

    @property
    def method(self) -> str:
        """Name of the method in the registry; a label may be another."""
        return str(self.recipe["methods"][self.label].get("method", self.label))

    @property
    def name(self) -> str:
        """Name in tables: the label, or "label:modality" where it trains one modality."""
        return self.label if self.modality is None else f"{self.label}:{self.modality}"

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.recipe["seeds"][0])

    @property
    def accuracy(self) -> float:
        """Test accuracy of a finished run, a fraction."""
        assert self.summary is not None
        return float(self.summary["test"]["accuracy"])

    def epochs(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl, one an epoch.

        Raises:
            DataError: the file is damaged.
        """
        return _lines(self.folder / "metrics.jsonl", stored.Epoch)

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of events.jsonl, one a diagnosis.

        Raises:
            DataError: the file is damaged.
        """
        return _lines(self.folder / "events.jsonl", stored.Event)

    def outputs(self) -> dict[str, NDArray[Any]] | None:
        """Return what the model gave for the N rows of the test split, or None where it was not kept.

        Arrays: `labels` (N,), `weight` (N,) one over the draws of the row's sample, `logits` (N, C),
        `classes` (C,), and `features_<modality>` (N, D) for each modality.

        Raises:
            DataError: the file is damaged.
        """
        path = self.folder / "test_outputs.npz"
        if not path.exists():
            return None
        try:
            # Opened here: numpy leaves a path open when what it holds is no archive.
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
        except Exception as error:
            raise _damaged(path, error) from error
        problem = stored.outputs_problem(found)
        if problem is not None:
            raise _damaged(path, problem)
        return found


def collect(folders: Iterable[Path]) -> list[RunRecord]:
    """Return the runs at or below the folders, by recipe, method (in the registry's order), label, modality, seed.

    Raises:
        UsageError: a folder holds no run, or two runs are of the same recipe, label, modality and seed.
        DataError: a folder is not there, or a file of a run is damaged or lacks what it should hold.
    """
    found: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"{folder}: {'is a file' if folder.exists() else 'no such folder'}; {_FOLDERS}")
        paths = sorted(folder.rglob(RECIPE_FILE))
        if not paths:
            raise UsageError(f"{folder}: no run here or below; {_FOLDERS}")
        found |= {path.parent.resolve(): path.parent for path in paths}
    order = {method: place for place, method in enumerate(METHODS.names())}
    runs = sorted(map(_read_run, found.values()), key=lambda run: _place(run, order))
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


def _place(run: RunRecord, order: Mapping[str, int]) -> tuple[str, int, str, int, int]:
    modalities = list(run.recipe["modalities"])
    modality = modalities.index(run.modality) if run.modality in modalities else 0
    return run.recipe_name, order.get(run.method, len(order)), run.label, modality, run.seed


def _refuse_doubles(runs: Sequence[RunRecord]) -> None:
    seen: dict[tuple[str, str, int], RunRecord] = {}
    for run in runs:
        other = seen.setdefault((run.recipe_name, run.name, run.seed), run)
        if other is not run:
            raise UsageError(
                f"{run.folder}: {run.recipe_name} {run.name} seed {run.seed} is in {other.folder} already; "
                "report the folders apart, or train one of them with another name=NAME"
            )


def _read_run(folder: Path) -> RunRecord:
    path = folder / RECIPE_FILE
    recipe = _mapping(path, parse_yaml, stored.Recipe)
    if recipe["method"] not in recipe["methods"]:
        raise _damaged(path, f"methods has no block {recipe['method']!r}")
    environment = _mapping(folder / "environment.json", json.loads, stored.Environment)
    path = folder / "summary.json"
    summary = _mapping(path, json.loads, stored.Summary) if path.exists() else None
    modality = _modality_of_folder(folder, recipe) if summary is None else summary.get("modality")
    return RunRecord(folder, recipe, environment, summary, modality)


def _modality_of_folder(folder: Path, recipe: Mapping[str, Any]) -> str | None:
    """The modality of an unfinished run: only its folder, `<label>/<modality>/seed<k>`, tells."""
    parent = folder.resolve().parent
    return parent.name if parent.name in recipe["modalities"] and parent.parent.name == recipe["method"] else None


def _mapping(path: Path, parse: Callable[[str], Any], model: type[BaseModel]) -> dict[str, Any]:
    """Read a file that holds one block of keys."""
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _damaged(path, error) from error
    return _checked(path, found, model)


def _lines(path: Path, model: type[BaseModel]) -> list[dict[str, Any]]:
    try:
        found = read_json_lines(path)
    except DrcliError as error:
        raise DataError(str(error)) from error
    return [_checked(path, line, model) for line in found]


def _checked(path: Path, found: Any, model: type[BaseModel]) -> dict[str, Any]:
    problem = stored.problem(found, model)
    if problem is not None:
        raise _damaged(path, problem)
    return found  # type: ignore[no-any-return]  # a block of keys: it has no problem


def _damaged(path: Path, why: object) -> DataError:
    return DataError(f"{path}: damaged ({why}); {_REMEDY}")
