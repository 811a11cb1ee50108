"""How numbers and selection are put into words, the same in the terminal, in tables and on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from drcli.amounts import counted
from drcli.task import CLASSIFICATION, Kind

if TYPE_CHECKING:
    from drcli.runs.comparison import Ranking, Resolution, Splits

ABSENT = "-"
POINTS = 100
"""Scale of a fraction that is shown in per cent, and its differences in points."""


class Selecting(Protocol):
    """What says how an epoch was selected: a recipe or a summary."""

    @property
    def selection(self) -> str:
        """Split that the epoch is selected on, or "last"."""

    @property
    def monitor(self) -> str:
        """Whether the test split is scored after each epoch: "test" or "none"."""


@dataclass(frozen=True)
class Selected:
    """How an epoch was selected, where there is neither recipe nor summary."""

    selection: str
    monitor: str


def how_selected(of: Iterable[Selecting]) -> str:
    """Return how honest test scores are, to follow "epoch": "selected on val", and whether test was watched."""
    found = list(of)
    watched = any(one.monitor == "test" for one in found)
    return selected_on(one.selection for one in found) + (
        "; the test split was watched while training" if watched else ""
    )


def selected_on(selections: Iterable[str]) -> str:
    """Return "selected on val" in words for all of `val`, `test` and `last`."""
    found = set(selections)
    splits = ", ".join(sorted(found - {"last"}))
    if "last" not in found:
        return f"selected on {splits}"
    return f"selected on {splits}, or as the last" if splits else "selected as the last"


def untouched(name: str, count: int, of: int) -> str:
    """Return the note on runs that re-learning has not changed: the epoch that was kept is from before it."""
    return (
        f"{name}: in {count} of {of} runs the selected epoch is from before the first re-learning, "
        "which therefore changed nothing of what is scored."
    )


def significant(names: Sequence[str], tested: int) -> str:
    """Return which of several differences are significant, corrected for their number."""
    which = f": {', '.join(names)}" if names else ""
    verb = "is" if len(names) == 1 else "are"
    return f"{len(names)} of {tested} differences {verb} significant (paired t-tests at 5 %, Holm's correction){which}."


def shown_by_seeds(found: Resolution | None, reference: str) -> str:
    """Return which difference so many seeds can show, and how many would show one point; "" where it is not known."""
    if found is None:
        return ""
    many = "more than 10,000" if found.for_one_point is None else f"{found.for_one_point}"
    kind = found.kind
    one = "1 point" if kind.scale == POINTS else f"{kind.step:g}"
    least, deviation = (
        f"{kind.scale * value:.{kind.digits}f}{' points' if kind.scale == POINTS else ''}"
        for value in (found.detectable, found.deviation)
    )
    return (
        f"{found.seeds} seeds can show differences to {reference} of {least} or more; to "
        f"show {one} it would take {many} (paired t-test at 5 %, power 80 %, no correction; the differences have a "
        f"standard deviation of {deviation}, the median over methods)."
    )


def splits_apart(found: Splits) -> str:
    """Return the warning that accuracy on validation and on test differ by more than sampling explains."""
    return (
        f"Validation and test differ by more than sampling explains: {percent(found.val)} of {found.n_val} samples "
        f"against {percent(found.test)} of {found.n_test}, on average over runs (two-proportion test, p < 0.001). "
        "What is chosen on this validation split may not hold on test. Check whether train and validation share "
        "recordings, speakers or near copies, and whether features were learned on the training part of the data."
    )


def told_apart(found: Ranking) -> str:
    """Return what average ranks can tell apart."""
    overall = "" if found.friedman is None else f" Friedman's test that all are equal: p {_equals(found.friedman)}."
    if found.critical is None:
        return overall.strip()
    rule = f"Ranks that are {found.critical:.2f} or more apart differ (critical difference of Nemenyi's test at 5 %)."
    furthest = max(found.means.values()) - min(found.means.values())
    if found.critical > len(found.means) - 1:
        rule += f" No ranks of {len(found.means)} methods can be, over {found.datasets} datasets."
    elif furthest < found.critical:
        rule += " No two of these are."
    return rule + overall


def percent(fraction: float) -> str:
    """Return a fraction as a percentage: "84.1 %"."""
    return f"{100 * fraction:.1f} %"


def mean_and_spread(mean: float | None, std: float | None = None, *, scale: float = 100, digits: int = 1) -> str:
    """Return a mean fraction in per cent: "84.1", with its standard deviation "84.1 ± 0.5"; "-" where absent.

    Args:
        mean: the mean.
        std: the standard deviation, None of one value.
        scale: 1 for the fraction itself.
        digits: decimal places.
    """
    if mean is None:
        return ABSENT
    shown = f"{scale * mean:z.{digits}f}"
    return shown if std is None else f"{shown} ± {scale * std:.{digits}f}"


def p_value(p: float) -> str:
    """Return a p-value: "0.012", or "<0.001"."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def _equals(p: float) -> str:
    shown = p_value(p)
    return shown.replace("<", "< ") if shown.startswith("<") else f"= {shown}"


def points(difference: float, kind: Kind = CLASSIFICATION.first) -> str:
    """Return a difference of scores: "+0.5" in percentage points, "-0.012" of a MAE."""
    return f"{kind.scale * difference:+z.{kind.digits}f}"


def interval(limits: Sequence[float], kind: Kind = CLASSIFICATION.first) -> str:
    """Return an interval of differences, as `points` shows them: "[-0.1, +1.2]"."""
    return f"[{points(limits[0], kind)}, {points(limits[1], kind)}]"


def score_and_spread(mean: float | None, std: float | None = None, *, kind: Kind) -> str:
    """Return a mean score, with its standard deviation: "84.1 ± 0.5", "0.912 ± 0.010"; "-" where absent."""
    return mean_and_spread(mean, std, scale=kind.scale, digits=kind.digits)


def seconds_of(own: float, before: float) -> str:
    """Return mean seconds of a run; "+ 40" are those of the runs that it starts from and shares with others."""
    return f"{own:.0f} + {before:.0f}" if before else f"{own:.0f}"


def not_finished(left: int, runs: int) -> str:
    """Return how many of some runs are not finished, without an end: "1 of 3 runs is not finished"."""
    return f"{left} of {counted(runs, 'run')} {'is' if left == 1 else 'are'} not finished"


def all_finished(runs: int) -> str:
    """Return that so many runs are all finished: "12 runs, all finished", "1 run, finished"."""
    return "1 run, finished" if runs == 1 else f"{runs} runs, all finished"


def duration(seconds: float) -> str:
    """Return seconds as "0:42", "12:05" or "3:07:09"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
