"""What `drcli eval` finds, as typed records; `to_dict` of them is its JSON."""

from __future__ import annotations

from typing import Any

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from drcli.runs.conditions import Conditions
from drcli.runs.measures import AnyMeasures, Cost
from drcli.runs.record import Record, Share
from drcli.runs.scores import AnyProbe, Correlation, ValueProbe
from drcli.task import CLASSIFICATION, REGRESSION, Task

CONDITIONS = ("absent", "subsets", "missing", "noise")
"""Keys of the output beside the plain scores."""


class _Conditioned(Record):
    conditions: Conditions | None

    def to_dict(self) -> dict[str, Any]:
        """As `Record.to_dict`; the scores under conditions stand beside the plain ones, those not asked for nowhere."""
        plain = {key: value for key, value in super().to_dict().items() if key != "conditions"}
        found = {} if self.conditions is None else self.conditions.to_dict()
        return {**plain, **{key: found[key] for key in CONDITIONS if found.get(key)}}


class Unfinished(Record):
    """How far a run is that is not finished."""

    epochs_done: NonNegativeInt
    epochs: NonNegativeInt


class Evaluated(_Conditioned):
    """Scores of a checkpoint on a split.

    Attributes:
        checkpoint: the file.
        split: what was scored.
        epoch: epoch of the checkpoint.
        selected_epoch: epoch that the run had selected by then.
        unfinished: how far the run is; None of a finished one.
        selection: split that the epoch was selected on, or "last".
        monitor: "test" where the test split was scored after each epoch.
        accuracy: share of samples predicted right, in [0, 1]; None of a regression.
        macro_f1: mean over classes of the F1 score, in [0, 1]; None of a regression.
        mae: mean absolute error of a regression; None of a classification.
        corr: Pearson's correlation of a regression; None of a classification, and where predictions are constant.
        n: number of samples.
        unimodal: linear probes by modality.
        fused_probe: accuracy of a linear probe on the features of all modalities together, or scores of a regression on
            them; None for one modality.
        measures: what the predictions are worth beside that; None where logits are not finite.
        cost: what the run took, as far as it is known.
        conditions: scores without modalities and under noise; None where none were asked for.
    """

    checkpoint: str
    split: str
    epoch: NonNegativeInt
    selected_epoch: NonNegativeInt
    unfinished: Unfinished | None = None
    selection: str
    monitor: str
    accuracy: Share | None = None
    macro_f1: Share | None = None
    mae: NonNegativeFloat | None = None
    corr: Correlation | None = None
    n: PositiveInt
    unimodal: dict[str, AnyProbe]
    fused_probe: Share | ValueProbe | None = None
    measures: AnyMeasures | None = None
    cost: Cost
    conditions: Conditions | None = None

    @property
    def task(self) -> Task:
        """What is predicted."""
        return CLASSIFICATION if self.mae is None else REGRESSION

    @property
    def first(self) -> float | None:
        """The accuracy, or the MAE."""
        return self.accuracy if self.mae is None else self.mae

    @property
    def second(self) -> float | None:
        """The macro-F1, or the correlation."""
        return self.macro_f1 if self.mae is None else self.corr

    @property
    def fused(self) -> float | None:
        """What the probe on the features of all modalities is compared by."""
        return self.fused_probe.score if isinstance(self.fused_probe, ValueProbe) else self.fused_probe


class EvaluatedRun(_Conditioned):
    """Scores of one of several runs without modalities and under noise.

    Attributes:
        run: its folder.
        recipe: name of its recipe.
        name: of the run in tables.
        seed: its seed.
        accuracy: test accuracy with everything as it is, a fraction; None of another split, and of a regression.
        mae: the same of a regression.
        conditions: what was found.
    """

    run: str
    recipe: str
    name: str
    seed: NonNegativeInt
    accuracy: Share | None = None
    mae: NonNegativeFloat | None = None
    conditions: Conditions | None = None

    @property
    def first(self) -> float | None:
        """The accuracy, or the MAE."""
        return self.accuracy if self.mae is None else self.mae


class EvaluatedRuns(Record):
    """Scores of the runs below a folder without modalities and under noise.

    Attributes:
        split: what was scored.
        runs: the runs that can be in one of the conditions.
    """

    split: str
    runs: list[EvaluatedRun]

    def to_dict(self) -> dict[str, Any]:
        """Return the object of `drcli eval --json`."""
        return {"split": self.split, "runs": [run.to_dict() for run in self.runs]}
