"""What tuning has found: a recipe of the winners, tables of gain and cost, and the expected best of n trials."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from drcli.amounts import counted
from drcli.recipe.text import spelled
from drcli.report.drawing import Curve, add_legend, draw_curve
from drcli.report.render import TableText
from drcli.report.theme import COLOURS, PAPER, Theme, write_figure
from drcli.runs.comparison import Mean
from drcli.runs.wording import ABSENT, points, score_and_spread, seconds_of
from drcli.task import CLASSIFICATION, TASKS, Kind
from drcli.tuning.search import put
from drcli.tuning.study import Study, TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIX = "-tuned"
"""What the name of a recipe with the winners ends in, so that its runs have a folder of their own."""

SUFFIXES = (".svg", ".png")

STOPPED = ("stopped",)
STOPPED_MEANS = (
    "stopped: trials that were behind the median of earlier ones; they count with the epoch selected of those they had."
)
NOTES = (
    "default: the recipe's own values, which are the first trial; tuned: the best trial, of equal ones the first.",
    "drawn: mean and standard deviation of the other trials that did not fail: how much the values matter.",
    "The best of several trials reads too high on the split that chose it; compare by the test of the tuned recipe.",
)


def expected_best(values: Sequence[float]) -> list[float]:
    """Return the expected best validation score of n trials, for n from 1 to N, the number of values.

    With v_(1) <= ... <= v_(N) the scores of N trials drawn at random, the best of n further ones, drawn from
    their empirical distribution with replacement, is expected to be

        E[max of n] = sum over i of v_(i) * ((i / N)^n - ((i - 1) / N)^n)

    (Dodge et al., "Show Your Work", EMNLP 2019, section 3). Of trials that a sampler drew knowing of earlier ones it
    says the same, but they are no random sample.

    Args:
        values: N scores of which the greatest is the best, in any order.
    """
    count = len(values)
    ranked = sorted(values)
    return [
        sum(value * ((i / count) ** n - ((i - 1) / count) ** n) for i, value in enumerate(ranked, start=1))
        for n in range(1, count + 1)
    ]


@dataclass(frozen=True)
class Tuned:
    """What the trials of one method have found.

    Attributes:
        label: of the method.
        trials: its trials, all of them over.
        own: the recipe's own value of each key that is searched.
    """

    label: str
    trials: Sequence[TrialRecord]
    own: Mapping[str, Any]

    @property
    def default(self) -> TrialRecord:
        """The trial of the recipe's own values."""
        return self.trials[0]

    @property
    def best(self) -> TrialRecord:
        """The best trial, of equal ones the first; the default where all were bad."""
        return max(self.trials, key=lambda trial: (trial.merit, -trial.number))

    @property
    def kind(self) -> Kind:
        """The score that trials are compared by."""
        return self.default.kind

    @property
    def gain(self) -> float | None:
        """Validation accuracy, or MAE, of the best trial minus that of the default; None where that failed."""
        best, default = self.best.score, self.default.score
        return None if best is None or default is None else best - default

    @property
    def drawn(self) -> Mean | None:
        """Of the scores of the trials that were drawn and did not fail; None where there is none."""
        found = [trial.score for trial in self.trials[1:] if trial.score is not None]
        return Mean.of(found) if found else None

    @property
    def bad(self) -> int:
        """Number of trials that failed."""
        return sum(trial.score is None for trial in self.trials)

    @property
    def stopped(self) -> int:
        """Number of trials that were stopped, being behind."""
        return sum(trial.stopped is not None for trial in self.trials)

    @property
    def curve(self) -> list[float]:
        """The expected best of n of the trials that were drawn; the default does not count.

        A bad one has accuracy 0; of a regression, it is left out.
        """
        counted = [trial for trial in self.trials[1:] if trial.score is not None or trial.task is None]
        return [self.kind.merit(merit) for merit in expected_best([trial.merit for trial in counted])]

    @property
    def seconds(self) -> tuple[float, float]:
        """Duration of all its runs together, and of the unimodal runs that they needed."""
        return sum(trial.seconds for trial in self.trials), sum(trial.teacher_seconds for trial in self.trials)


def results(study: Study) -> list[Tuned]:
    """Return what was found of the methods whose trials are all over, now or earlier, in the recipe's order."""
    found = {label: study.records(label) for label in study.recipe.methods if label not in study.failed}
    return [Tuned(label, records, study.own(label)) for label, records in found.items() if len(records) == study.trials]


# The recipe


def tuned_recipe(data: Mapping[str, Any], found: Sequence[Tuned], name: str) -> str:
    """Return a recipe, as YAML, with the winners in the blocks of their methods, and no method that was not tuned.

    Args:
        data: plain data of the recipe that was tuned, as its file and the command line give it.
        found: the winners.
        name: of that recipe.
    """
    made = copy.deepcopy({key: value for key, value in data.items() if key != "search"})
    made["name"] = name if name.endswith(SUFFIX) else f"{name}{SUFFIX}"
    blocks = {}
    for one in found:
        blocks[one.label] = dict(made["methods"].get(one.label) or {})
        put(blocks[one.label], one.best.values)
    made["methods"] = blocks
    if made.get("method") not in blocks:
        made["method"] = found[0].label
    lines = [f"# {name} with the values that did best on the validation split; written by drcli tune."]
    lines += [f"# {one.label}: {_words(one)}" for one in found]
    return "\n".join(lines) + "\n" + yaml.safe_dump(made, sort_keys=False, allow_unicode=True)


def _words(one: Tuned) -> str:
    scores = " -> ".join(score_and_spread(trial.score, kind=one.kind) for trial in (one.default, one.best))
    count = counted(len(one.trials), "trial")
    return f"{scores} {one.kind.unit or one.kind.name} ({count}, trial {one.best.number} is the best)"


# Tables and picture


def tables(study: Study, found: Sequence[Tuned]) -> list[TableText]:
    """Return what was gained and what it cost, the expected best of n trials, and the winners."""
    name, seeds = study.recipe.name, ", ".join(map(str, study.seeds))
    score = _in_words(TASKS[study.recipe.task].first)
    title = f"{name}: validation {score}, {counted(study.trials, 'trial')} each ({study.sampler}), seeds {seeds}"
    columns = ("method", "default", "tuned", "gain", "drawn", "bad", *STOPPED[: study.prune], "seconds")
    notes = [*NOTES, *([STOPPED_MEANS] if study.prune else [])]
    gained = TableText(title, columns, [_row(one, with_stopped=study.prune) for one in found], notes)
    return [gained, *([_curves(name, found)] if study.trials > 1 else []), _winners(name, found)]


def _row(one: Tuned, *, with_stopped: bool) -> list[str]:
    drawn = one.drawn
    return [
        one.label,
        score_and_spread(one.default.score, kind=one.kind),
        score_and_spread(one.best.score, kind=one.kind),
        ABSENT if one.gain is None else points(one.gain, one.kind),
        ABSENT if drawn is None else score_and_spread(drawn.mean, drawn.std, kind=one.kind),
        str(one.bad),
        *([str(one.stopped)] if with_stopped else []),
        seconds_of(*one.seconds),
    ]


def _curves(name: str, found: Sequence[Tuned]) -> TableText:
    steps = steps_of(max(len(one.trials) - 1 for one in found)) if found else []
    rows = [[one.label, *(_expected(one, n) for n in steps)] for one in found]
    kind = found[0].kind if found else CLASSIFICATION.first
    bad = "counts as 0" if kind.more_is_better else "is left out"
    notes = (
        "What the best of n trials drawn at random is expected to have (Dodge et al., EMNLP 2019).",
        f"A bad trial {bad}; the first trial, which is not drawn, does not count.",
    )
    in_unit = "in per cent" if kind.unit else kind.name
    return TableText(f"{name}: expected best of n trials, {in_unit}", ["method", *map(str, steps)], rows, notes)


def _expected(one: Tuned, n: int) -> str:
    return score_and_spread(one.curve[n - 1], kind=one.kind) if n <= len(one.curve) else ABSENT


def _in_words(kind: Kind) -> str:
    return f"{kind.name} in per cent" if kind.unit else f"{kind.name}, the less the better"


def steps_of(count: int) -> list[int]:
    """Return 1, 2, 4 and so on up to a number, and the number itself."""
    doubled = [2**power for power in range(count.bit_length()) if 2**power < count]
    return [*doubled, count]


def _winners(name: str, found: Sequence[Tuned]) -> TableText:
    rows = [
        [one.label, key, spelled(one.own[key]), spelled(one.best.values.get(key, one.own[key]))]
        for one in found
        for key in one.own
    ]
    return TableText(f"{name}: values", ["method", "key", "default", "tuned"], rows)


def to_json(study: Study, found: Sequence[Tuned]) -> dict[str, Any]:
    """Return the object of `drcli tune --json`, without the places of files."""
    return {
        "recipe": study.recipe.name,
        "trials": study.trials,
        "seeds": list(study.seeds),
        "sampler": study.sampler,
        "prune": study.prune,
        "methods": {one.label: _json(one) for one in found},
        **({"failed": study.failed} if study.failed else {}),
    }


def _json(one: Tuned) -> dict[str, Any]:
    seconds, teacher_seconds = one.seconds
    drawn = one.drawn
    return {
        "default": one.default.score,
        "tuned": one.best.score,
        "gain": one.gain,
        "best_trial": one.best.number,
        "values": dict(one.best.values),
        "drawn_mean": drawn and drawn.mean,
        "drawn_std": drawn and drawn.std,
        "bad_trials": one.bad,
        "stopped_trials": one.stopped,
        "expected_best": one.curve,
        "seconds": seconds,
        "teacher_seconds": teacher_seconds,
        "history": [trial.to_dict() for trial in one.trials],
    }


def write_picture(folder: Path, found: Sequence[Tuned]) -> list[Path]:
    """Write the picture into a folder and return its files; none where no trial was drawn.

    Of more methods than there are colours, those have one whose curves gain most; the others are grey. A method whose
    trials were all bad has no curve.

    Raises:
        RunError: a file cannot be written.
    """
    shown = [one for one in found if one.curve]
    gaining = sorted(shown, key=lambda one: one.kind.merit(one.curve[0] - one.curve[-1]))  # these most need tuning
    theme = PAPER.with_methods((one.label for one in shown), [one.label for one in gaining])
    paths = [folder / f"expected_best{suffix}" for suffix in SUFFIXES] if shown else []
    for path in paths:
        write_figure(path, theme, partial(draw_curves, found=shown, theme=theme))
    return paths


def draw_curves(figure: Figure, found: Sequence[Tuned], theme: Theme) -> None:
    """Draw the curve of each method, accuracies in per cent."""
    from matplotlib.ticker import MaxNLocator

    figure.set_size_inches(7.5, 4.2 + 0.08 * min(len(found), len(COLOURS)))
    axes = figure.subplots()
    keys, kind = [], found[0].kind
    for one in found:
        mean = [one.kind.scale * value for value in one.curve]
        curve = Curve(range(1, len(mean) + 1), mean, [0.0] * len(mean))
        keys.append((draw_curve(axes, curve, theme.look(one.label), "-", theme), one.label))
    axes.set(xlabel="trials n", ylabel=f"expected best of n (validation, {kind.unit or kind.name})")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(figure, keys, theme)
