"""What a run keeps, as typed records: the engine makes them, the run directory writes and reads them.

Reports, comparisons, tables and tests take these records; nothing else knows the keys of the files. Keys that a
record does not have may be in a file too, and are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import AliasChoices, Field, NonNegativeInt, model_validator

from drcli.diagnosis.settings import above_floor, at_floor
from drcli.errors import StoppedError
from drcli.runs.measures import AnyMeasures, Cost
from drcli.runs.record import Record, Seconds, Share
from drcli.runs.scores import AnyProbe, AnyScores, EpochScores, ValueProbe
from drcli.task import TaskName

FORMAT = 2
"""Version of the files that this drcli writes. Version 1 had none, and no validation scores in its summary."""


class EpochRecord(Record):
    """A line of metrics.jsonl: one epoch.

    Attributes:
        epoch: from 0.
        lr: learning rate.
        train: means over the training rows: "loss", "accuracy" or "mae", and what the method logs.
        val: scores of the validation split.
        test: scores of the test split, where the recipe asks for them in each epoch.
        selected: whether the epoch was the best one so far.
        seconds: duration, with evaluation and diagnosis.
        samples_per_second: training rows per second of training.
    """

    epoch: NonNegativeInt
    lr: float
    train: dict[str, float]
    val: EpochScores
    test: EpochScores | None = None
    selected: bool
    seconds: Seconds
    samples_per_second: float = Field(validation_alias=AliasChoices("samples_per_second", "clips_per_second"))


class Purities(Record):
    """Purities of the clusters of train and of validation, in [0, 1], and their gap; below 0 in files of old."""

    purity_train: Share
    purity_val: Share
    gap: Annotated[float, Field(ge=-1 - 1e-6, le=1 + 1e-6)]


class LearningState(Purities):
    """What a diagnosis found in one modality, and what a re-learning left of it.

    Attributes:
        gap_permuted: gap of the same clusters under permuted labels.
        strength: how far the encoder is pulled, or would be, towards its initial weights.
        purity_permuted_train: purity of the training clusters under permuted labels.
        purity_permuted_val: the same of validation.
        purity_adjusted_train: purity of the training clusters, corrected for chance.
        purity_adjusted_val: the same of validation.
        gap_adjusted: gap of the two corrected purities.
        num_train: training rows that were clustered.
        num_val: validation rows that were clustered.
        after: measured again right after the pull.
    """

    gap_permuted: float | None = None
    strength: float
    purity_permuted_train: float | None = None
    purity_permuted_val: float | None = None
    purity_adjusted_train: float | None = None
    purity_adjusted_val: float | None = None
    gap_adjusted: float | None = None
    num_train: int | None = None
    num_val: int | None = None
    after: Purities | None = None

    @property
    def gap_above_floor(self) -> float | None:
        """What of the gap permuted labels do not explain; None where they were not tried."""
        return None if self.gap_permuted is None else above_floor(self.gap, self.gap_permuted)

    @property
    def is_at_floor(self) -> bool:
        """Whether permuted labels have a gap as large, give or take what another start of K-means changes."""
        return self.gap_permuted is not None and at_floor(self.gap, self.gap_permuted)


class Event(Record):
    """A line of events.jsonl: one diagnosis.

    Attributes:
        epoch: epoch at whose end it was made.
        kind: "relearn", which changed weights, or "monitor", which did not; another method may have its own.
        event: number of the re-learning, from 1.
        lambda_: slope from gap to strength; or {m: slope of m}.
        rule: what made strengths of the gaps, or the strength itself.
        modalities: what was found, by modality.
    """

    epoch: NonNegativeInt
    kind: str
    event: int | None = None
    lambda_: float | dict[str, float] | None = Field(None, alias="lambda")
    rule: str | float | None = None
    modalities: dict[str, LearningState]


class Summary(Record):
    """summary.json: the result of a finished run; written last.

    Attributes:
        format: version of the files.
        method: label of the method.
        modality: of a unimodal run.
        seed: the seed.
        selection: split that the epoch was selected on, or "last".
        monitor: "test" where the test split was scored after each epoch.
        selected_epoch: epoch of the checkpoint.
        epochs: epochs that were trained.
        seconds: duration of the run itself.
        teacher_seconds: duration of the runs whose encoders it starts from.
        events: how many times encoders were re-learned.
        first_event: epoch at whose end they were re-learned first; None without, and in files of old.
        val: scores of the selected epoch on validation; None in files of version 1.
        tested: scores of the selected epoch on test, "test" in the file; None for a trial of `drcli tune`, which never
            opens the test split.
        unimodal: linear probes by modality.
        fused_probe: accuracy of a linear probe on the features of all modalities together, or scores of a regression
            on them; None for one modality, and in files of before it was measured.
        measures: what the predictions of test are worth beside that; None where logits are not finite, and in files of
            before it was measured.
        cost: what the run took; None in files of before it was measured.
    """

    format: int = 1
    method: str
    modality: str | None = None
    seed: NonNegativeInt
    selection: str
    monitor: str
    selected_epoch: NonNegativeInt
    epochs: NonNegativeInt
    seconds: Seconds
    teacher_seconds: Seconds = 0.0
    events: NonNegativeInt
    first_event: NonNegativeInt | None = None
    val: AnyScores | None = None
    tested: AnyScores | None = Field(None, alias="test")
    unimodal: dict[str, AnyProbe]
    fused_probe: Share | ValueProbe | None = None
    measures: AnyMeasures | None = None
    cost: Cost | None = None

    @model_validator(mode="after")
    def _check_epoch(self) -> Self:
        if self.selected_epoch >= max(self.epochs, 1):
            raise ValueError(f"selected_epoch is {self.selected_epoch}, of {self.epochs} epochs")
        return self

    @property
    def test(self) -> AnyScores:
        """Scores of the selected epoch on test, of a run that has them; see `tested`."""
        assert self.tested is not None
        return self.tested

    @property
    def fused(self) -> float | None:
        """What the probe on the features of all modalities is compared by; see `fused_probe`."""
        return self.fused_probe.score if isinstance(self.fused_probe, ValueProbe) else self.fused_probe

    @property
    def is_untouched(self) -> bool:
        """Whether the selected weights are from before the first re-learning, which follows its epoch's checkpoint."""
        return self.first_event is not None and self.selected_epoch <= self.first_event

    @property
    def all_seconds(self) -> float:
        """Duration of the run and of the runs that it starts from."""
        return self.seconds + self.teacher_seconds

    def to_dict(self) -> dict[str, Any]:
        """As `Record.to_dict`; without teachers there is no `teacher_seconds`."""
        found = super().to_dict()
        return found if self.teacher_seconds else {k: v for k, v in found.items() if k != "teacher_seconds"}


class Environment(Record):
    """environment.json: what the bits of a run depend on beside recipe and seed.

    Attributes:
        format: version of the files of the run directory.
        drcli: version.
        python: version.
        packages: versions by name.
        platform: operating system and processor.
        device: cpu or cuda.
        devices: processes that train the run together.
        accelerator: name of the GPU.
        threads: of torch.
        cores: of the machine.
        dataset_fingerprint: digest of the prepared data.
        dataset_root: absolute path of the prepared data, so that the run is of use from any folder.
        command: the command line.
        method_source: digest of the file that the method is written in.
        weights: digests of the weights that the run starts from.
        labels: labels of the recipe's methods, in its order.
    """

    format: int = 1
    drcli: str = ""
    python: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    platform: str | None = None
    device: str | None = None
    devices: int | None = None
    accelerator: str | None = None
    threads: int | None = None
    cores: int | None = None
    dataset_fingerprint: str = ""
    dataset_root: str | None = None
    command: list[str] | None = None
    method_source: str = ""
    weights: dict[str, str] | None = None
    labels: list[str] = Field(default_factory=list)

    def machine(self) -> dict[str, Any]:
        """Return what describes machine and versions, without what belongs to this one run."""
        return self.model_dump(
            exclude={
                *("format", "dataset_fingerprint", "dataset_root", "command", "method_source", "weights", "labels"),
            },
            exclude_none=True,
        )


class Failure(Record):
    """failure.json: what ended a run, until it is trained again.

    Attributes:
        recipe: name of the recipe.
        name: of the run in tables.
        seed: the seed.
        kind: type of the error.
        message: what the user reads.
        exit_code: of the command where nothing else happened.
        trace: traceback of an error that no input explains, such as a bug of a plug-in.
    """

    recipe: str
    name: str
    seed: NonNegativeInt
    kind: str
    message: str
    exit_code: int = 1
    trace: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def was_stopped(self) -> bool:
        """Whether nothing went wrong: the run of a trial was behind, see `drcli.tuning.pruning`."""
        return self.kind == StoppedError.__name__


class _Dataset(Record, extra="allow"):
    name: str
    root: str | None = None
    prepare: dict[str, Any] = Field(default_factory=dict)


class _Fusion(Record, extra="allow"):
    name: str


class RunRecipe(Record, extra="allow"):
    """recipe.yaml: the resolved recipe of one label and one seed, as far as tables and figures need it.

    What has no attribute here is kept as it is, see `plain`.
    """

    name: str
    dataset: _Dataset
    method: str
    methods: dict[str, dict[str, Any]]
    modalities: dict[str, dict[str, Any]]
    corrupt: dict[str, Any] = Field(default_factory=dict)
    fusion: _Fusion | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    selection: str = "val"
    monitor: str = "none"
    task: TaskName = "classification"
    seeds: Annotated[list[NonNegativeInt], Field(min_length=1, max_length=1)]

    @property
    def settings(self) -> Mapping[str, Any]:
        """The block of the method that is trained."""
        return self.methods[self.method]

    @property
    def epochs(self) -> int | None:
        """Epochs of the run; None where the recipe does not say."""
        found = self.training.get("epochs")
        return found if isinstance(found, int) else None

    def plain(self) -> dict[str, Any]:
        """Return the recipe as plain data."""
        return self.model_dump(mode="json", exclude_unset=True)


def names_of(events: Sequence[Event]) -> list[str]:
    """Return the modalities that events are about, in their order."""
    return list(dict.fromkeys(m for event in events for m in event.modalities))


def first_scores(epochs: Iterable[EpochRecord], split: str) -> dict[int, float]:
    """Return {epoch: accuracy} on train, val or test, a fraction, or the MAE, of the epochs that have one."""
    if split == "train":
        found_in = {record.epoch: record.train.get(record.val.task.first.key) for record in epochs}
    else:
        scores = {record.epoch: record.val if split == "val" else record.test for record in epochs}
        found_in = {epoch: None if found is None else found.first for epoch, found in scores.items()}
    return {epoch: score for epoch, score in found_in.items() if score is not None}


def measure(events: Iterable[Event], modality: str, key: str) -> dict[int, float]:
    """Return {epoch: value} of `purity_train`, `gap` or another field of a modality's learning state."""
    found: dict[int, float] = {}
    for event in events:
        value = getattr(event.modalities.get(modality), key, None)
        if value is not None:
            found[event.epoch] = float(value)
    return found
