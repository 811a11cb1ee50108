"""A study: the same number of trials for every method, in a folder that survives a kill.

study.json                 what is tuned: recipe, data, seeds, sampler
trials/<label>/<n>.json    the trials that are over, one file each, written whole
runs/<label>/<n>/          run directories of the trials that are not; removed with the trial's file

A trial is a recipe with some values of its own; its runs are ordinary ones, to which the test split is closed. Any
engine that executes runs can execute those of a study: it decides how many run at once, and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import NonNegativeFloat

from drcli.engine.grid import GridResult
from drcli.errors import DamagedError, DataError, DivergedError, OutOfMemoryError, UsageError
from drcli.files import locked, make_folder, write_json
from drcli.reading import read_json_object
from drcli.recipe.load import identity_of, with_defaults
from drcli.recipe.schema import Recipe
from drcli.recipe.text import differences, excerpt
from drcli.runs.directory import STUDY, RunDirectory
from drcli.runs.planned import PlannedRun, plan
from drcli.runs.record import Record, RecordError, Seconds, Share, parse
from drcli.runs.records import Failure, Summary
from drcli.task import TASKS, Kind, TaskName
from drcli.tuning.pruning import floors
from drcli.tuning.search import Sampler, Space, Told, Values, draw, present_values, space_of, with_values

FORMAT = 1
REMEDY = "delete the folder to start over, or choose another --out"
BAD = frozenset({DivergedError.__name__, OutOfMemoryError.__name__})
"""Errors that a trial's values explain: such a trial is a bad one, and the study goes on."""

ROUND = 4
"""Trials of a method that know of the same earlier ones, however many run at once: by TPE, and by the median rule."""

Run = Callable[[Sequence[PlannedRun]], GridResult]
"""Executes runs, each after those that it needs; `drcli.commands.engines` has those of all engines."""


class StudyRecord(Record):
    """study.json.

    Attributes:
        format: version of the files.
        recipe: the resolved recipe.
        dataset_fingerprint: digest of the prepared data.
        seeds: of the trials.
        sampler: how values are drawn.
        prune: whether trials that are behind are stopped.
    """

    format: int = FORMAT
    recipe: dict[str, Any]
    dataset_fingerprint: str
    seeds: list[int]
    sampler: str
    prune: bool = False


class TrialRecord(Record):
    """A trial that is over.

    Attributes:
        number: from 0; trial 0 has the recipe's own values.
        values: by dotted key in the method's block; none of trial 0.
        accuracy: mean over runs of the accuracy of the selected epoch on validation; None of a bad trial.
        accuracies: that of each run; None where `accuracy` is.
        task: "regression", which has MAEs in their place; None of a classification.
        mae: mean over runs of the MAE of the selected epoch on validation; None of a bad trial.
        maes: that of each run.
        seconds: duration of its runs together.
        teacher_seconds: duration of the unimodal runs that the method needs, together.
        failure: what ended a bad trial.
        stopped: epochs after which the first of its runs was stopped, being behind; None: all were trained to the end.
        curves: accuracy on validation by epoch of each of the method's runs, where trials may be stopped.
    """

    number: int
    values: dict[str, int | float | str]
    accuracy: Share | None = None
    accuracies: dict[str, Share] | None = None
    task: TaskName | None = None
    mae: NonNegativeFloat | None = None
    maes: dict[str, NonNegativeFloat] | None = None
    seconds: Seconds
    teacher_seconds: Seconds = 0.0
    failure: str | None = None
    stopped: int | None = None
    curves: dict[str, list[Share]] | None = None

    @property
    def kind(self) -> Kind:
        """The score that trials are compared by."""
        return TASKS[self.task or "classification"].first

    @property
    def score(self) -> float | None:
        """Its accuracy or MAE; None of a bad trial."""
        return self.accuracy if self.task is None else self.mae

    @property
    def merit(self) -> float:
        """Its score with the sign under which the greatest is the best; of a bad trial, accuracy 0 or the worst MAE."""
        if self.score is not None:
            return self.kind.merit(self.score)
        return 0.0 if self.task is None else self.kind.merit(self.kind.worst)


@dataclass(frozen=True)
class Trial:
    """A trial that is to be run.

    Attributes:
        label: of the method.
        number: from 0.
        values: as in its record.
        folder: of its runs.
        runs: those of the method, and before them those of its teachers.
    """

    label: str
    number: int
    values: Values
    folder: Path
    runs: Sequence[PlannedRun]


@dataclass
class Study:
    """The trials of a recipe's methods.

    Args:
        folder: its folder.
        recipe: what is tuned; `search:` may widen what is searched.
        labels: the methods, each of which gets the same number of trials.
        trials: that number, the recipe's own values being the first.
        seeds: of each trial.
        sampler: how values are drawn.
        prune: whether trials that are behind are stopped; see `drcli.tuning.pruning`.

    Attributes:
        failed: what ended a method's search that its values do not explain, such as a bug of a plug-in; by label.
    """

    folder: Path
    recipe: Recipe
    labels: Sequence[str]
    trials: int
    seeds: Sequence[int]
    sampler: Sampler = "random"
    prune: bool = False
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find what is searched, before any data is read.

        Raises:
            RecipeError: a range is not allowed.
        """
        self.spaces: Mapping[str, Space] = {label: space_of(self.recipe, label) for label in self.labels}

    def run(self, fingerprint: str, run: Run, told: Callable[[Trial, TrialRecord], None], at_once: int) -> None:
        """Run the trials that are left.

        Values, and with them all that is found, are the same whatever is done at once, and however often this
        was stopped before.

        Args:
            fingerprint: of the prepared data.
            run: executes runs.
            told: called with each trial when it is over.
            at_once: the most trials that `run` is given together.

        Raises:
            UsageError: the folder holds another study, or cannot be written.
            DataError: the study was begun on other data, or a file is damaged.
            RunError: another process uses the folder.
        """
        make_folder(self.folder, remedy="choose another folder with --out")
        with locked(self.folder):
            self._claim(fingerprint)
            for first in range(0, self.trials, self._round):
                left = self._left(first)
                while chunk := list(islice(left, at_once)):
                    result = run([one for trial in chunk for one in trial.runs])
                    for trial in chunk:
                        self._tell(trial, result, told)

    def own(self, label: str) -> dict[str, Any]:
        """Return the recipe's own value of each key that is searched for a label."""
        present = present_values(self.recipe, label)
        space = self.spaces[label] if label in self.spaces else space_of(self.recipe, label)
        return {key: present[key] for key in space}

    @property
    def _round(self) -> int:
        """Trials of a method that know of the same earlier ones."""
        return self.trials if self.sampler == "random" and not self.prune else ROUND

    def _left(self, first: int) -> Iterator[Trial]:
        """Yield the trials of a round that are not over, all methods' first ones first."""
        for number in range(first, min(first + self._round, self.trials)):
            for label in self.labels:
                values = self._values(label, number, first)
                record = self.record(label, number)
                if record is not None:
                    self._check(label, record, values)
                    shutil.rmtree(self._runs(label, number), ignore_errors=True)  # a kill may have left it
                elif label not in self.failed:
                    yield self._trial(label, number, values, first)

    def _values(self, label: str, number: int, first: int) -> Values:
        """Return the values of a trial, drawn knowing of the trials before its round."""
        if number == 0:
            return {}
        own = self.own(label)
        before = [self.record(label, other) for other in range(first if self.sampler == "tpe" else 0)]
        told = [Told({**own, **record.values}, record.merit) for record in before if record is not None]
        return draw(self.spaces[label], self.sampler, (label, number), told)

    def _trial(self, label: str, number: int, values: Values, first: int) -> Trial:
        folder = self._runs(label, number)
        runs = plan(with_values(self.recipe, label, values), [label], self.seeds, folder)
        earlier = [self.record(label, other) for other in range(first if self.prune else 0)]
        known = [record.curves or {} for record in earlier if record is not None]
        floors_of = {one.folder: floors([by_run.get(_key(one), []) for by_run in known], one.epochs) for one in runs}
        own = {one.folder for one in runs if one.recipe.method == label}
        return Trial(
            label,
            number,
            values,
            folder,
            [replace(one, opens_test=False, floors=floors_of[one.folder] if one.folder in own else ()) for one in runs],
        )

    def _check(self, label: str, record: TrialRecord, values: Values) -> None:
        if record.values != values:
            raise UsageError(
                f"{self._file(label, record.number)}: holds a trial of {excerpt(record.values)}, and this drcli draws "
                f"{excerpt(values)}: ranges or Optuna are not what they were; {REMEDY}"
            )

    def _tell(self, trial: Trial, result: GridResult, told: Callable[[Trial, TrialRecord], None]) -> None:
        """Write down a trial, and then remove its runs; nothing is written where its values do not explain its end."""
        record = outcome(trial, result, with_curves=self.prune)
        if isinstance(record, str):
            self.failed[trial.label] = record
            return
        path = self._file(trial.label, trial.number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, record.to_dict(), follow=False)
        shutil.rmtree(trial.folder, ignore_errors=True)
        told(trial, record)

    # On disk

    def record(self, label: str, number: int) -> TrialRecord | None:
        """Return a trial that is over, or None.

        Raises:
            DataError: its file is damaged.
        """
        path = self._file(label, number)
        found: TrialRecord | None = _read(path, TrialRecord) if path.exists() else None
        return found

    def records(self, label: str) -> list[TrialRecord]:
        """Return the trials of a label that are over, among those asked for."""
        found = [self.record(label, number) for number in range(self.trials)]
        return [record for record in found if record is not None]

    def _runs(self, label: str, number: int) -> Path:
        return self.folder / "runs" / label / f"{number:03}"

    def _file(self, label: str, number: int) -> Path:
        return self.folder / "trials" / label / f"{number:03}.json"

    def _claim(self, fingerprint: str) -> None:
        """Write down what is tuned, or check that it is what is here already."""
        path = self.folder / STUDY
        ours = StudyRecord(
            recipe=self.recipe.to_dict(),
            dataset_fingerprint=fingerprint,
            seeds=list(self.seeds),
            sampler=self.sampler,
            prune=self.prune,
        )
        if not path.exists():
            write_json(path, ours.to_dict(), follow=False)
            return
        there: StudyRecord = _read(path, StudyRecord)
        changed = differences(_compared(there), _compared(ours))
        if changed:
            lines = "\n".join(f"  {line}" for line in changed)
            raise UsageError(f"{self.folder}: holds a study of another recipe, seeds or sampler; {REMEDY}\n{lines}")
        if there.dataset_fingerprint != fingerprint:
            raise DataError(f"{self.folder}: this study was begun on other data than the recipe's now; {REMEDY}")


def _compared(study: StudyRecord) -> dict[str, Any]:
    """Return what makes two studies the same: not the place of the data, nor what the final runs will be."""
    recipe = identity_of(with_defaults(study.recipe))
    rest = {key: value for key, value in recipe.items() if key not in {"method", "seeds"}}
    return {**rest, "--tune-seeds": study.seeds, "--sampler": study.sampler, "--prune": study.prune}


def _read(path: Path, model: type[Record]) -> Any:
    found = read_json_object(path, remedy=REMEDY, error=DamagedError)
    try:
        return parse(model, found)
    except RecordError as error:
        raise DamagedError(f"{path}: damaged ({error}); {REMEDY}") from error


@dataclass(frozen=True)
class _End:
    """How a run has ended: with a summary, with a failure, or with neither; and how long it took."""

    run: PlannedRun
    summary: Summary | None
    failure: Failure | None
    seconds: float
    curve: Sequence[float]

    @classmethod
    def of(cls, run: PlannedRun) -> _End:
        files = RunDirectory(run.folder)
        summary, epochs = files.summary(), files.epochs()
        curve = [epoch.val.first for epoch in epochs]
        if summary is not None:
            return cls(run, summary, None, summary.seconds, curve)
        return cls(run, None, files.failure(), sum(epoch.seconds for epoch in epochs), curve)

    @property
    def was_stopped(self) -> bool:
        """Whether it was behind."""
        return self.failure is not None and self.failure.was_stopped

    @property
    def score(self) -> float:
        """Accuracy or MAE on validation: of the selected epoch; of a run that was stopped, of those it had."""
        if self.summary is None:  # accuracies: no regression is stopped
            return self.curve[-1] if self.run.recipe.selection == "last" else max(self.curve)
        assert self.summary.val is not None
        return self.summary.val.first


def _key(run: PlannedRun) -> str:
    """Return what a run of a method is called in each of its trials."""
    return f"{run.name} seed {run.seed}"


def outcome(trial: Trial, result: GridResult, *, with_curves: bool = False) -> TrialRecord | str:
    """Return a trial's record from the files of its runs; why there is none, where its values do not explain that."""
    ends = [_End.of(run) for run in trial.runs]
    own = [end for end in ends if end.run.recipe.method == trial.label]
    seconds = sum(end.seconds for end in own)
    rest = sum(end.seconds for end in ends) - seconds
    task = None if own[0].run.recipe.task == "classification" else own[0].run.recipe.task
    record = TrialRecord(
        number=trial.number,
        values=trial.values,
        seconds=seconds,
        teacher_seconds=max(rest, 0.0),
        task=task,
        curves={_key(end.run): list(end.curve) for end in own} if with_curves else None,
    )
    if all(end.summary is not None or end.was_stopped for end in ends):
        found = {_key(end.run): end.score for end in own}
        stopped = min((len(end.curve) for end in own if end.was_stopped), default=None)
        names = ("accuracy", "accuracies") if task is None else ("mae", "maes")
        scores = dict(zip(names, (fmean(found.values()), found), strict=True))
        return record.model_copy(update={**scores, "stopped": stopped})
    failures = [end.failure for end in ends if end.failure is not None and not end.was_stopped]
    bad = [failure for failure in failures if failure.kind in BAD]
    if bad:
        return record.model_copy(update={"failure": bad[0].message})
    return "\n".join([*dict.fromkeys(map(str, failures or result.failed))]) or f"{trial.folder}: not finished"
