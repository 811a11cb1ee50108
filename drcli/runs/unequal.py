"""What differs between the runs of one recipe beside what is compared, methods and seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from drcli.recipe.text import Key, dotted, excerpt
from drcli.runs.collect import RunRecord, by_label, named
from drcli.runs.directory import without_root

MOST_KEYS = 3
# What is compared; what changes no weights; and the fusion, which unimodal runs do not have.
_LEFT_OUT = {"name", "method", "methods", "seeds", "diagnosis", "monitor", "fusion"}
_ABSENT = object()
_MACHINE = ("device", "accelerator", "threads", "torch", "drcli")


def unequal(runs: Sequence[RunRecord]) -> str:
    """Return a sentence on what else differs between runs of one recipe, "" where nothing does.

    They can come from commands with other KEY=VALUE, from data prepared anew, or from another machine. The
    sentence reads "Not all else is equal in digits: training.epochs is 60 in joint, 5 in pmr."
    """
    found = list(_differing(runs, _shared))
    found += _differing(
        [run for run in runs if run.modality is None], lambda run: {"fusion": _plain(run).get("fusion")}
    )
    for group in by_label(runs).values():
        found += _differing(group, lambda run: {"methods": run.recipe.methods})
    found += _other_machines(runs)
    if not found:
        return ""
    more = [f"and {len(found) - MOST_KEYS} more"] if len(found) > MOST_KEYS else []
    return f"Not all else is equal in {runs[0].recipe_name}: {'; '.join([*found[:MOST_KEYS], *more])}."


def _shared(run: RunRecord) -> dict[str, Any]:
    """What the runs of a recipe have in common: where the data lies does not matter, which it is does."""
    found = {key: value for key, value in _plain(run).items() if key not in _LEFT_OUT}
    return found | {"dataset_fingerprint": run.environment.dataset_fingerprint[:16]}


def _plain(run: RunRecord) -> dict[str, Any]:
    return without_root(run.recipe.plain())


def _other_machines(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yield what differs in machine and versions, among the runs that noted it: a CPU has no accelerator."""
    for key in _MACHINE:
        view = partial(_noted, key)
        yield from _differing(list(filter(view, runs)), view)


def _noted(key: str, run: RunRecord) -> dict[str, Any]:
    noted = {**run.environment.machine(), **run.environment.packages}
    return {key: noted[key]} if noted.get(key) is not None else {}


def _differing(runs: Sequence[RunRecord], view: Callable[[RunRecord], Mapping[str, Any]]) -> Iterator[str]:
    """Yield each key whose value is not the same in all runs, with its values."""
    flat = [dict(_leaves(view(run))) for run in runs]
    for key in dict.fromkeys(key for one in flat for key in one):
        values = [one.get(key, _ABSENT) for one in flat]
        if any(value != values[0] for value in values):
            yield f"{dotted(key)} is {_values(runs, values)}"


def _leaves(value: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, (*key, str(name)))
    else:
        yield key, value


def _values(runs: Sequence[RunRecord], values: Sequence[Any]) -> str:
    """Return "60 in joint, 5 in pmr", the commonest value first."""
    groups: dict[str, list[RunRecord]] = {}
    for run, value in zip(runs, values, strict=True):
        groups.setdefault("absent" if value is _ABSENT else excerpt(value), []).append(run)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{text} in {_where(group, runs)}" for text, group in ordered)


def _where(group: Sequence[RunRecord], runs: Sequence[RunRecord]) -> str:
    several = len(by_label(group)) > 1
    return "most" if several and 2 * len(group) > len(runs) else named(group, runs)
