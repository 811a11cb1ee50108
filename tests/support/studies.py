"""Stands for an engine under a study: leaves in the run directories what runs would."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from support.records import scores, summary_record

from drcli.engine.grid import GridResult
from drcli.runs.directory import RunDirectory
from drcli.runs.planned import PlannedRun
from drcli.runs.records import Failure


class KilledError(BaseException):
    """Stands for a kill."""


@dataclass
class FakeEngine(ABC):
    """Runs what `train` says; killed before the run of number `kill_after`.

    Attributes:
        runs: all that it was given, in order.
    """

    kill_after: int = 10**9
    runs: list[PlannedRun] = field(default_factory=list)

    def __call__(self, runs: Sequence[PlannedRun]) -> GridResult:
        failed = []
        for run in runs:
            if len(self.runs) >= self.kill_after:
                raise KilledError
            self.runs.append(run)
            run.folder.mkdir(parents=True, exist_ok=True)
            failure = self.train(run, RunDirectory(run.folder))
            if failure is not None:
                RunDirectory(run.folder).write_failure(failure)
                failed.append(failure)
        return GridResult([], failed)

    @abstractmethod
    def train(self, run: PlannedRun, files: RunDirectory) -> Failure | None:
        """Leave the files of a run, and return what ended it if it failed."""


def accuracy_of(run: PlannedRun) -> float:
    """The greater the nearer the learning rate is to 0.1."""
    return 1 / (1 + abs(math.log10(run.recipe.training.optimizer.lr / 0.1)))


def finish(run: PlannedRun, files: RunDirectory) -> None:
    """Leave the summary of a run that took 7 seconds."""
    summary = summary_record(
        method=run.recipe.method,
        seed=run.seed,
        probes={},
        modality=run.modality,
        val=scores(accuracy_of(run)),
        test=None,
        seconds=7.0,
    )
    files.write_summary(summary)
