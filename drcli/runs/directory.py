"""The run directory: what a run keeps, and whether it is still the same run.

recipe.yaml        the resolved recipe of this run; itself a recipe
environment.json   versions, device, threads, fingerprint of the data
metrics.jsonl      one line per epoch
events.jsonl       one line per diagnosis
checkpoint.pt      the selected epoch
last.pt            the last finished epoch, for resuming
test_outputs.npz   the selected epoch's logits and features of the test split, with the ids of its samples
test_predictions.csv  id, true and predicted class of the same rows
summary.json       test scores; written last
conditions.json    test scores without modalities and under noise, if `drcli eval` was asked for them
failure.json       what ended the run, until it is trained again
tensorboard/       the same curves as event files

Only this module knows these names. Imports no torch, so that a report of many runs starts at once.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from drcli.errors import CheckpointError, DamagedError, DataError, RecipeError
from drcli.files import Lock, append_json_line, write_atomic, write_json
from drcli.npz_file import read_npz
from drcli.reading import ContentsError, differing, one_line, read_json_lines, read_json_object, storable
from drcli.recipe.load import identity_of, with_defaults
from drcli.recipe.plain_yaml import read_yaml
from drcli.recipe.schema import Recipe
from drcli.recipe.text import Change, proposed_name
from drcli.runs.conditions import Conditions
from drcli.runs.longer import obstacles
from drcli.runs.outputs import StoredOutputs, narrowed
from drcli.runs.record import Record, RecordError, parse
from drcli.runs.records import FORMAT, Environment, EpochRecord, Event, Failure, RunRecipe, Summary

STARTING_OVER = "delete the folder, or train with --fresh, to start over; or choose another --out, or name=NAME"
RESTORING = "restore it, or leave its folder out"

_RECIPE = "recipe.yaml"
STUDY = "study.json"
"""In a folder of `drcli tune`: what it holds are trials, no runs to be reported."""

_R = TypeVar("_R", bound=Record)


class RunDirectory:
    """Files of one run.

    Args:
        folder: the run directory; it must exist before something is written.
        remedy: what to do about a damaged file, for messages.

    Attributes:
        lock: held while a run is trained here; before each write, the folder must still be the one that was locked.
    """

    def __init__(self, folder: Path, *, remedy: str = STARTING_OVER) -> None:
        self.folder = folder
        self.remedy = remedy
        self.lock: Lock | None = None
        self.checkpoint = folder / "checkpoint.pt"
        self.last = folder / "last.pt"
        self.tensorboard = folder / "tensorboard"
        self._recipe = folder / _RECIPE
        self._environment = folder / "environment.json"
        self._metrics = folder / "metrics.jsonl"
        self._events = folder / "events.jsonl"
        self._outputs = folder / "test_outputs.npz"
        self._predictions = folder / "test_predictions.csv"
        self._summary = folder / "summary.json"
        self._conditions = folder / "conditions.json"
        self.failure_file = folder / "failure.json"

    @staticmethod
    def below(folder: Path) -> list[Path]:
        """Return the run directories at or below a folder, in the order of their names; a study's trials are none."""
        studies = {path.parent for path in folder.rglob(STUDY)}
        return [path.parent for path in sorted(folder.rglob(_RECIPE)) if studies.isdisjoint(path.parents)]

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self._recipe.exists()

    # What a run is

    def claim(self, recipe: Recipe, environment: Environment) -> None:
        """Write down what run this is, or check that it is the one that is here already.

        What a run has left that was stopped in its first epoch is removed.

        Raises:
            RecipeError: another recipe was trained here; the differences are shown.
            DataError: other data was used here.
        """
        if self.check(recipe, environment.dataset_fingerprint):
            return
        if self.exists:  # a run that has finished no epoch has nothing to lose
            self.clear()
        self._write(self._environment, environment.model_copy(update={"format": FORMAT}))
        self._replace(self._recipe, yaml.safe_dump(recipe.to_dict(), sort_keys=False).encode())

    def check(self, recipe: Recipe, fingerprint: str) -> bool:
        """Return whether this run has finished an epoch here already, with as many epochs or fewer to come.

        Raises:
            RecipeError: another recipe was trained here; the differences are shown.
            DataError: other data was used here, or the files are damaged.
        """
        if not self.is_begun:
            return False
        lines = self.obstacles(recipe)
        if lines:
            remedy = self.remedy.replace("name=NAME", f"name={proposed_name(recipe.name, self.changes(recipe))}")
            text = "\n".join(f"  {line}" for line in lines)
            raise RecipeError(f"{self.folder}: holds a run of another recipe; {remedy}\n{text}")
        if self.environment().dataset_fingerprint != fingerprint:
            raise DataError(f"{self.folder}: this run was started on other data than the recipe's now; {self.remedy}")
        return True

    def is_finished(self, recipe: Recipe) -> bool:
        """Return whether this recipe's run has its test scores here."""
        return self._summary.exists() and self.exists and not self.changes(recipe)

    @property
    def is_begun(self) -> bool:
        """Whether a run has finished an epoch here."""
        return self.last.exists() or self._summary.exists()

    def obstacles(self, recipe: Recipe) -> list[str]:
        """Return in lines what the run here has otherwise, and why it cannot go on to more epochs; nothing: it can.

        Raises:
            DamagedError: it is unknown which recipe was trained here.
        """
        return obstacles(recipe, self.changes(recipe), can_resume=self.last.exists())

    def changes(self, recipe: Recipe) -> list[Change]:
        """Return what the recipe of the run that was begun here has otherwise; nothing where none has an epoch.

        Raises:
            DamagedError: it is unknown which recipe that was.
        """
        if not self.is_begun:
            return []
        if not self.exists:
            raise DamagedError(f"{self._recipe}: missing beside a trained run, so it is unknown which; {self.remedy}")
        there = with_defaults(self._recipe_mapping())
        return list(differing(identity_of(there), identity_of(recipe.to_dict())))

    def claim_weights(self, digests: Mapping[str, str]) -> None:
        """Write down which pre-trained weights the run starts from, or check that they are the same.

        Args:
            digests: digest of the weights by modality.

        Raises:
            DataError: the run was started from other weights.
        """
        environment = self.environment()
        if environment.weights is None:
            self._write(self._environment, environment.model_copy(update={"weights": dict(digests)}))
        elif environment.weights != dict(digests):
            raise DataError(f"{self.folder}: this run was started from other pre-trained weights; {self.remedy}")

    # Writing

    def guard(self) -> None:
        """Make sure, before something is written, that the folder is still the one that was locked.

        Raises:
            RunError: it was deleted, or begun again by another process.
        """
        if self.lock is not None:
            self.lock.check()

    def clear(self) -> None:
        """Remove everything but the lock.

        What says which run this is goes last: killed before, the rest is not taken for another recipe's.
        """
        self.guard()
        for path in sorted(self.folder.iterdir(), key=lambda path: path in {self._recipe, self._environment}):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def reopen(self, recipe: Recipe) -> None:
        """Make a finished run one that goes on to the epochs of a recipe: its result is removed, its epochs stay."""
        self.guard()
        for path in (self._summary, self._outputs, self._predictions, self._conditions):
            path.unlink(missing_ok=True)
        self._replace(self._recipe, yaml.safe_dump(recipe.to_dict(), sort_keys=False).encode())

    def sweep(self) -> None:
        """Remove the files that a killed process was still writing."""
        for path in self.folder.glob(".*.tmp"):
            path.unlink()

    def truncate(self, epoch: int) -> None:
        """Drop the log lines of `epoch` and later: the epochs that a resumed run does again."""
        self._keep(self._metrics, [record for record in self.epochs() if record.epoch < epoch])
        self._keep(self._events, [event for event in self.events() if event.epoch < epoch])

    def _keep(self, path: Path, records: list[_R]) -> None:
        self._replace(path, "".join(json.dumps(storable(record.to_dict())) + "\n" for record in records).encode())

    def log_epoch(self, record: EpochRecord) -> None:
        """Append an epoch to the log."""
        self.guard()
        append_json_line(self._metrics, record.to_dict())

    def log_event(self, event: Event) -> None:
        """Append a diagnosis to the log."""
        self.guard()
        append_json_line(self._events, event.to_dict())

    def write_outputs(self, outputs: StoredOutputs) -> None:
        """Keep what the model gives for the test split; features as float16 where that is wide enough.

        Beside it comes a table of the predictions.
        """
        kept = replace(outputs, features={m: narrowed(x) for m, x in outputs.features.items()})
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **kept.arrays())
        self._replace(self._outputs, buffer.getvalue())
        self._replace(self._predictions, outputs.predictions_csv().encode())

    def write_summary(self, summary: Summary) -> None:
        """Write the test scores, which make the run a finished one."""
        self._write(self._summary, summary)
        self.failure_file.unlink(missing_ok=True)

    def write_conditions(self, found: Conditions) -> None:
        """Keep scores without modalities and under noise."""
        self._write(self._conditions, found)

    def write_failure(self, failure: Failure) -> None:
        """Keep what ended the run."""
        self._write(self.failure_file, failure)

    def _write(self, path: Path, record: Record) -> None:
        self.guard()
        write_json(path, record.to_dict(), follow=False)

    def _replace(self, path: Path, content: bytes) -> None:
        self.guard()
        write_atomic(path, content, follow=False)

    # Reading

    def recipe(self) -> RunRecipe:
        """Return the resolved recipe of the run.

        Raises:
            DataError: the file is damaged.
        """
        found = self._parsed(self._recipe, self._recipe_mapping(), RunRecipe)
        if found.method not in found.methods:
            raise self._damaged(self._recipe, f"methods has no block {found.method!r}")
        return found

    def environment(self) -> Environment:
        """Return what was noted of the machine; see `recipe` for errors."""
        return self._versioned(self._environment, Environment)

    def dataset_root(self) -> Path | None:
        """Return where the run's data was, as an absolute path; None where that was not noted, or is damaged."""
        try:
            noted = self.environment().dataset_root
        except DataError:
            return None
        return None if noted is None else Path(noted)

    def summary(self) -> Summary | None:
        """Return the scores of a finished run, or None; see `recipe` for errors."""
        return self._versioned(self._summary, Summary) if self._summary.exists() else None

    def conditions(self) -> Conditions | None:
        """Return the scores without modalities and under noise, or None; see `recipe` for errors."""
        reader = RunDirectory(self.folder, remedy="delete this file alone, and repeat `drcli eval`")
        return reader._versioned(self._conditions, Conditions) if self._conditions.exists() else None

    def failure(self) -> Failure | None:
        """Return what ended the run, or None; see `recipe` for errors."""
        return self._record(self.failure_file, Failure) if self.failure_file.exists() else None

    def epochs(self) -> list[EpochRecord]:
        """Return the epochs of the log, from 0 on; see `recipe` for errors."""
        found = self._lines(self._metrics, EpochRecord)
        for expected, record in enumerate(found):
            if record.epoch != expected:
                raise self._damaged(self._metrics, f"line {expected + 1} is epoch {record.epoch}, not {expected}")
        return found

    def events(self) -> list[Event]:
        """Return the diagnoses of the log, in the order of epochs; see `recipe` for errors."""
        found = self._lines(self._events, Event)
        for before, event in pairwise(found):
            if event.epoch < before.epoch:
                raise self._damaged(self._events, f"epoch {event.epoch} after epoch {before.epoch}")
        return found

    def count_events(self, kind: str) -> int:
        """Return how many events of a kind there are; see `recipe` for errors."""
        return sum(event.kind == kind for event in self.events())

    def first_event(self, kind: str) -> int | None:
        """Return the epoch of the first event of a kind; None without. See `recipe` for errors."""
        return next((event.epoch for event in self.events() if event.kind == kind), None)

    def count_epochs(self) -> int:
        """Return how many epochs the log has, without reading what it says."""
        return self._metrics.read_bytes().count(b"\n") if self._metrics.exists() else 0

    def log_state(self) -> tuple[int, int] | None:
        """Return what changes whenever the log of epochs does; None before there is one."""
        try:
            found = self._metrics.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    @property
    def has_outputs(self) -> bool:
        """Whether what the model gives for the test split was kept."""
        return self._outputs.exists()

    def outputs(self) -> StoredOutputs | None:
        """Return what the model gave for the test split, or None; see `recipe` for errors."""
        if not self.has_outputs:
            return None
        try:
            return StoredOutputs.of(read_npz(self._outputs))
        except (OSError, ContentsError, RecordError) as error:
            raise self._damaged(self._outputs, error) from error

    def _versioned(self, path: Path, model: type[_R]) -> _R:
        found = self._record(path, model)
        version = getattr(found, "format", 1)
        if version > FORMAT:
            raise DataError(
                f"{path}: format is {version}, this drcli reads up to {FORMAT}; use the drcli that wrote it"
            )
        return found

    def _lines(self, path: Path, model: type[_R]) -> list[_R]:
        found = read_json_lines(path, remedy=self.remedy, error=DamagedError)
        return [self._parsed(path, line, model) for line in found]

    def _record(self, path: Path, model: type[_R]) -> _R:
        return self._parsed(path, read_json_object(path, remedy=self.remedy, error=DamagedError), model)

    def _parsed(self, path: Path, found: object, model: type[_R]) -> _R:
        try:
            record: _R = parse(model, found)
        except RecordError as error:
            raise self._damaged(path, error) from error
        return record

    def _recipe_mapping(self) -> dict[str, Any]:
        found = read_yaml(self._recipe, remedy=self.remedy, error=DamagedError)
        if not isinstance(found, dict):
            raise self._damaged(self._recipe, "not a mapping")
        return found

    def _damaged(self, path: Path, why: object) -> DamagedError:
        text = one_line(why) if isinstance(why, BaseException) else why
        return DamagedError(f"{path}: damaged ({text}); {self.remedy}")


def checkpoint_at(path: Path) -> Path:
    """Return the selected checkpoint of a run directory; any other path as it is.

    Raises:
        CheckpointError: it is a folder without a run, or of a run without a finished epoch.
    """
    if not path.is_dir():
        return path
    directory = RunDirectory(path)
    if not directory.exists:
        raise CheckpointError(
            f"{path}: a folder without a run ({_RECIPE} is missing); give a run directory, or the checkpoint.pt in one"
        )
    if not directory.checkpoint.exists():
        raise CheckpointError(f"{path}: this run has no checkpoint.pt, as no epoch of it is finished; train it")
    return directory.checkpoint
