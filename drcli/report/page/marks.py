"""What to know before quoting the numbers: the honest marks, at the head of the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from drcli.report.page.markup import Html, element
from drcli.report.page.results import device
from drcli.report.tables import split_warnings
from drcli.runs.collect import RunRecord, by_name, by_recipe, finished, unequal
from drcli.runs.wording import not_finished

WARNING, FINE = "warning", "fine"


def marks(runs: Sequence[RunRecord]) -> Html:
    """Return the list of marks on all runs."""
    done = finished(runs)
    checks = (_selection, _splits, _seeds, _alike, _outputs, _machines) if done else ()
    found = [mark for check in checks for mark in check(done)] + list(_unfinished(runs))
    return element("ul", *(element("li", text, class_=kind) for kind, text in found), class_="marks")


def _selection(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    on_test = _names(runs, lambda run: _says(run, "selection", "test"))
    last = _names(runs, lambda run: _says(run, "selection", "last"))
    watched = _names(runs, lambda run: _says(run, "monitor", "test"))
    if on_test:
        yield WARNING, f"Epochs were selected on the test split, so that scores are optimistic: {on_test}."
    if last:
        yield FINE, f"No epoch was selected, the last one was scored: {last}."
    if not on_test and not last:
        yield FINE, "Every epoch was selected on validation."
    if watched:
        yield WARNING, f"The test split was watched while training: {watched}."
    elif not on_test:  # which scores it after every epoch
        yield FINE, "Each run scored the test split once, at its end."


def _says(run: RunRecord, key: str, value: str) -> bool:
    return bool(getattr(run.done, key) == value)


def _splits(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    yield from ((WARNING, warning) for warning in split_warnings(runs))


def _seeds(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    recipes = [
        [{run.seed for run in group} for group in by_name(of_one).values()] for of_one in by_recipe(runs).values()
    ]
    counts = [len(seeds) for methods in recipes for seeds in methods]
    low, high = min(counts), max(counts)
    if low == 1:
        yield WARNING, "Some methods have one seed: nothing is known of their spread."
    if low != high:
        yield WARNING, f"Methods have between {low} and {high} seeds; differences are over the seeds that both have."
    elif any(seeds != methods[0] for methods in recipes for seeds in methods):
        yield WARNING, "Methods have different seeds; differences are over the seeds that both have."
    elif high > 1:
        yield FINE, f"Every method has {high} seeds."


def _alike(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    found = list(filter(None, map(unequal, by_recipe(runs).values())))
    yield from ((WARNING, sentence) for sentence in found)
    if not found:
        yield FINE, "The runs of a recipe differ in method and seed alone."


def _outputs(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    missing = _names(runs, lambda run: not _has_outputs(run))
    if missing and not any(map(_has_outputs, runs)):
        yield WARNING, "No run kept its outputs of the test split: there are neither maps nor confusion matrices."
    elif missing:
        yield WARNING, f"Without outputs of the test split, and so without map and confusion matrix: {missing}."


def _has_outputs(run: RunRecord) -> bool:
    return run.files.has_outputs


def _machines(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    devices = list(dict.fromkeys(map(device, runs)))
    if len(devices) > 1:
        yield WARNING, f"Run times are of different devices: {', '.join(devices)}."


def _unfinished(runs: Sequence[RunRecord]) -> Iterable[tuple[str, str]]:
    left = sum(run.summary is None for run in runs)
    if left:
        yield WARNING, f"{not_finished(left, len(runs))}, and left out."


def _names(runs: Iterable[RunRecord], claim: Callable[[RunRecord], bool]) -> str:
    """Return for which methods a claim holds, with the recipe before them; "" for none."""
    found = {recipe: by_name(filter(claim, group)) for recipe, group in by_recipe(runs).items()}
    return "; ".join(f"{recipe} {', '.join(names)}" for recipe, names in found.items() if names)
