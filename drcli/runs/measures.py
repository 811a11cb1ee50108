"""What a run measures beside accuracy, macro-F1 and probes: classes, calibration, cost; and the list of these measures.

`MEASURES` is what tables, the page and CSV files take their columns from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Discriminator, Field, NonNegativeInt, PositiveFloat, Tag

from drcli.runs.record import CLASSES, VALUES, Record, Seconds, Share, form
from drcli.task import TaskName


class ClassScores(Record):
    """Scores of the samples of one class.

    Attributes:
        accuracy: share of them predicted right (the recall of the class), in [0, 1]; None for a class without samples.
        n: their number, the support.
    """

    accuracy: Share | None = None
    n: NonNegativeInt


class Calibration(Record):
    """How well probabilities agree with what comes out; see `drcli.metrics.calibration` for the formulas.

    Attributes:
        nll: negative log-likelihood of the true class, in nats.
        ece: expected calibration error, in [0, 1].
        brier: Brier score, summed over classes, in [0, 2].
    """

    nll: Annotated[float, Field(ge=0)]
    ece: Share
    brier: Annotated[float, Field(ge=0, le=2 + 1e-6)]


class Measures(Record):
    """What the predictions of a split are worth beside accuracy and macro-F1.

    Attributes:
        balanced_accuracy: mean over classes with samples of their accuracy, in [0, 1].
        classes: by name, in the order of the logits.
        calibration: of the model's probabilities.
        temperature: T > 0, fitted on validation.
        scaled: calibration of the probabilities softmax(z / T).
    """

    balanced_accuracy: Share
    classes: dict[str, ClassScores]
    calibration: Calibration
    temperature: PositiveFloat
    scaled: Calibration


class Sentiment(Record):
    """What the predicted sentiments of a split are worth beside MAE and correlation; see `drcli.metrics.Sentiment`."""

    acc2: Share
    f1: Share
    acc2_nonzero: Share | None = None
    f1_nonzero: Share | None = None
    acc5: Share
    acc7: Share


AnyMeasures = Annotated[Annotated[Measures, Tag(CLASSES)] | Annotated[Sentiment, Tag(VALUES)], Discriminator(form)]


class Cost(Record):
    """What a run took.

    Attributes:
        parameters: numbers that encoders, fusion and the method's own modules are made of.
        seconds_per_epoch: mean over epochs, with evaluation and diagnosis; None for a method that takes no steps.
        seconds_per_1000: seconds of predicting 1,000 rows of the validation split, reading them included; each draw
            of a sample is a row.
        peak_memory: bytes of main memory that the process held at most while it trained, evaluated and probed,
            libraries included; None where the system does not tell. Of a run that was resumed, since then; of several
            processes, the first one's.
        peak_gpu_memory: bytes that tensors took on the GPU at most; None on a CPU.
    """

    parameters: NonNegativeInt
    seconds_per_epoch: Seconds | None = None
    seconds_per_1000: Seconds | None = None
    peak_memory: NonNegativeInt | None = None
    peak_gpu_memory: NonNegativeInt | None = None


class Measured(Protocol):
    """What has been measured: a summary."""

    @property
    def measures(self) -> Measures | Sentiment | None:
        """Of the test split; None in files of before there were any."""

    @property
    def cost(self) -> Cost | None:
        """Of the run; None in files of before it was measured."""


@dataclass(frozen=True)
class Measure:
    """One number of a run, and how it is shown.

    Attributes:
        key: what `--columns` and CSV files call it.
        heading: above a column.
        title: in a list, with its unit.
        value: of a summary; None where it was not measured.
        meaning: a note below a table; "" where the heading says it.
        scale: what is shown is the value times this.
        digits: decimal places.
        spread: whether its standard deviation over seeds is shown.
        more_is_better: whether the greatest is the best.
    """

    key: str
    heading: str
    title: str
    value: Callable[[Measured], float | None]
    meaning: str = ""
    scale: float = 1.0
    digits: int = 3
    spread: bool = True
    more_is_better: bool = False


def _of_predictions(value: Callable[[Measures], float]) -> Callable[[Measured], float | None]:
    return lambda found: value(found.measures) if isinstance(found.measures, Measures) else None


def _of_sentiments(value: Callable[[Sentiment], float | None]) -> Callable[[Measured], float | None]:
    return lambda found: value(found.measures) if isinstance(found.measures, Sentiment) else None


def _sentiment(key: str, heading: str, title: str, meaning: str) -> Measure:
    def value(found: Sentiment) -> float | None:
        score: float | None = getattr(found, key)
        return score

    return Measure(
        key, heading, f"{title} (%)", _of_sentiments(value), meaning, scale=100, digits=1, more_is_better=True
    )


def _of_cost(value: Callable[[Cost], float | None]) -> Callable[[Measured], float | None]:
    return lambda found: None if found.cost is None else value(found.cost)


QUALITY = (
    Measure(
        "balanced_accuracy",
        "balanced",
        "balanced accuracy (%)",
        _of_predictions(lambda found: found.balanced_accuracy),
        "balanced: mean over classes of the share of their samples that is predicted right.",
        scale=100,
        digits=1,
        more_is_better=True,
    ),
    Measure(
        "nll",
        "NLL",
        "negative log-likelihood (nats)",
        _of_predictions(lambda found: found.calibration.nll),
        "NLL: negative log-likelihood of the true class, in nats.",
    ),
    Measure(
        "ece",
        "ECE",
        "expected calibration error (%)",
        _of_predictions(lambda found: found.calibration.ece),
        "ECE: expected calibration error in per cent, over 15 bins of equal width of the confidence.",
        scale=100,
        digits=1,
    ),
    Measure(
        "brier",
        "Brier",
        "Brier score",
        _of_predictions(lambda found: found.calibration.brier),
        "Brier: squared distance of the probabilities to the true class, summed over classes, from 0 to 2.",
    ),
    Measure(
        "temperature",
        "T",
        "temperature, fitted on validation",
        _of_predictions(lambda found: found.temperature),
        "T: temperature that logits are divided by, fitted on validation.",
        digits=2,
    ),
    Measure(
        "nll_scaled",
        "NLL / T",
        "negative log-likelihood at that temperature (nats)",
        _of_predictions(lambda found: found.scaled.nll),
    ),
    Measure(
        "ece_scaled",
        "ECE / T",
        "expected calibration error at that temperature (%)",
        _of_predictions(lambda found: found.scaled.ece),
        scale=100,
        digits=1,
    ),
    Measure(
        "brier_scaled",
        "Brier / T",
        "Brier score at that temperature",
        _of_predictions(lambda found: found.scaled.brier),
    ),
)
"""What the predictions of the test split are worth."""

SENTIMENT = (
    _sentiment(
        "acc2",
        "Acc-2",
        "accuracy of two classes",
        "Acc-2: share of samples whose sign is right, 0 counting as positive.",
    ),
    _sentiment("f1", "F1", "F1 of two classes", "F1: of these two classes, weighted by their samples."),
    _sentiment(
        "acc2_nonzero",
        "Acc-2, no 0",
        "accuracy of two classes without zeros",
        "Acc-2, no 0: the same without the samples whose target is 0, and F1, no 0 with it.",
    ),
    _sentiment("f1_nonzero", "F1, no 0", "F1 of two classes without zeros", ""),
    _sentiment(
        "acc5", "Acc-5", "accuracy of five classes", "Acc-5: share of samples whose whole number from -2 to 2 is right."
    ),
    _sentiment(
        "acc7",
        "Acc-7",
        "accuracy of seven classes",
        "Acc-7: share of samples whose whole number from -3 to 3 is right.",
    ),
)
"""What the sentiments predicted for the test split are worth, in per cent."""

COST = (
    Measure("parameters", "parameters", "parameters", _of_cost(lambda found: found.parameters), digits=0, spread=False),
    Measure(
        "seconds_per_epoch",
        "s / epoch",
        "seconds per epoch",
        _of_cost(lambda found: found.seconds_per_epoch),
        "s / epoch: seconds of an epoch, with evaluation and diagnosis.",
        digits=2,
    ),
    Measure(
        "seconds_per_1000",
        "s / 1,000",
        "seconds per 1,000 predictions",
        _of_cost(lambda found: found.seconds_per_1000),
        "s / 1,000: seconds of predicting 1,000 samples.",
    ),
    Measure(
        "peak_memory",
        "MiB",
        "peak memory (MiB)",
        _of_cost(lambda found: found.peak_memory),
        "MiB: the most main memory that the process held, libraries included.",
        scale=2**-20,
        digits=0,
        spread=False,
    ),
    Measure(
        "peak_gpu_memory",
        "GPU MiB",
        "peak GPU memory (MiB)",
        _of_cost(lambda found: found.peak_gpu_memory),
        "GPU MiB: the most memory that tensors took on the GPU.",
        scale=2**-20,
        digits=0,
        spread=False,
    ),
)
"""What a run took."""

MEASURES = (*QUALITY, *SENTIMENT, *COST)
SCALED = "/ T: the same of softmax(z / T), after temperature scaling."


def measures_of(task: TaskName) -> tuple[Measure, ...]:
    """Return the measures that runs of a task have."""
    return (*(QUALITY if task == "classification" else SENTIMENT), *COST)


def measured(found: Measured) -> dict[str, float]:
    """Return what was measured, by key."""
    values = {one.key: one.value(found) for one in MEASURES}
    return {key: float(value) for key, value in values.items() if value is not None}


def meanings(keys: set[str]) -> list[str]:
    """Return the notes on the measures of a table's columns."""
    notes = [one.meaning for one in MEASURES if one.key in keys and one.meaning]
    return [*notes, *([SCALED] if any(key.endswith("_scaled") for key in keys) else [])]
