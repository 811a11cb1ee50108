"""Where the runs come from: commands, environments, resolved recipes, and the runs that are not finished."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from drcli.recipe.text import leaves
from drcli.report.page.markup import Html, element, to_html
from drcli.report.page.sections import Section
from drcli.report.render import TableText
from drcli.runs.collect import RunRecord, by_recipe, named
from drcli.runs.wording import ABSENT


def unfinished(runs: Sequence[RunRecord]) -> Section | None:
    """Return the section that lists unfinished runs and what ended them, or None where all are finished."""
    rows = [_unfinished_row(run) for run in runs if run.summary is None]
    columns = ("recipe", "method", "seed", "epochs done", "epochs in all", "ended by")
    intro = (
        "No table and no figure of this page contains these. Repeat the command that started them to resume them. "
        "Where no error ended a run, it was stopped or is still training."
    )
    return Section("Unfinished runs", intro, [to_html(TableText("Unfinished runs", columns, rows))]) if rows else None


def _unfinished_row(run: RunRecord) -> list[str]:
    failure = run.failure()
    ended = ABSENT if failure is None else " ".join(f"{failure.kind}: {failure.message}".split())
    epochs = ABSENT if run.recipe.epochs is None else str(run.recipe.epochs)
    return [run.recipe_name, run.name, str(run.seed), str(len(run.epochs())), epochs, ended]


def commands(runs: Sequence[RunRecord]) -> Section:
    """Return the section of the commands that started the runs."""
    lines = list(dict.fromkeys(_command(run) for run in runs))
    intro = "What was typed to make these runs, each command once."
    return Section("Commands", intro, [_block("\n".join(lines), "Commands")])


def _block(text: str, name: str) -> Html:
    """Return text as it stands, in a box that scrolls: the keyboard has to reach it, and so it needs a name."""
    return element("pre", element("code", text), tabindex="0", role="region", aria_label=name, class_="scroll")


def _command(run: RunRecord) -> str:
    if not run.environment.command:
        return f"# {run.recipe_name} {run.name} seed {run.seed}: command not recorded"
    program, *rest = run.environment.command
    name = Path(program).name
    return shlex.join(["drcli" if name == "__main__.py" else name, *rest])  # `python -m drcli` is the same


def environments(runs: Sequence[RunRecord]) -> Section:
    """Return the section of software and machines: what all runs have in common, and what differs between them."""
    flat = [{str(key[-1]): str(value) for key, value in leaves(run.environment.machine())} for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    values = {key: [one.get(key, "not recorded") for one in flat] for key in keys}
    same = [[key, found[0]] for key, found in values.items() if len(set(found)) == 1]
    others = [row for key, found in values.items() if len(set(found)) > 1 for row in _differing(key, found, runs)]
    tables = [TableText("Software and machine, the same in all runs", ("what", "value"), same)] if same else []
    tables += [TableText("What differs between runs", ("what", "value", "runs"), others)] if others else []
    content = [to_html(table) for table in [*tables, _data(runs)]]
    return Section("Environment", "What the runs recorded of the software and the machine they ran on.", content)


def _differing(key: str, values: Sequence[str], runs: Sequence[RunRecord]) -> list[list[str]]:
    """Return a row for each value of a key, with the runs that have it."""
    groups: dict[str, list[RunRecord]] = {}
    for run, value in zip(runs, values, strict=True):
        groups.setdefault(value, []).append(run)
    return [[key, value, _which(group, runs)] for value, group in groups.items()]


def _which(group: Sequence[RunRecord], runs: Sequence[RunRecord]) -> str:
    everyone = by_recipe(runs)
    parts = {recipe: named(found, everyone[recipe]) for recipe, found in by_recipe(group).items()}
    return "; ".join(f"{recipe} {names}" for recipe, names in parts.items())


def _data(runs: Sequence[RunRecord]) -> TableText:
    """Which prepared data each recipe's runs saw, by the first digits of its fingerprint."""
    pairs = {(run.recipe_name, run.dataset, run.environment.dataset_fingerprint[:16] or ABSENT) for run in runs}
    return TableText("Prepared data", ("recipe", "dataset", "fingerprint"), [list(pair) for pair in sorted(pairs)])


def recipes(runs: Sequence[RunRecord]) -> Section:
    """Return the section of the resolved recipes, folded, one for each method and what else differs."""
    blocks = [_recipe(name, text, found) for name, group in by_recipe(runs).items() for text, found in _texts(group)]
    intro = "Every setting with its value, as the runs stored them; runs that differ in the seed alone share one."
    return Section("Resolved recipes", intro, blocks)


def _texts(runs: Sequence[RunRecord]) -> list[tuple[str, list[RunRecord]]]:
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        without_seed = {key: value for key, value in run.recipe.plain().items() if key != "seeds"}
        found.setdefault(json.dumps(without_seed, default=str), []).append(run)
    return [(_yaml(group), group) for group in found.values()]


def _yaml(runs: Sequence[RunRecord]) -> str:
    recipe = {**runs[0].recipe.plain(), "seeds": sorted({run.seed for run in runs})}
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump(recipe, Dumper=dumper, sort_keys=False, default_flow_style=None, width=100)


def _recipe(recipe: str, text: str, runs: Sequence[RunRecord]) -> Html:
    title = f"{recipe}: {runs[0].label}"
    return element("details", element("summary", title), _block(text, f"Recipe of {title}"))
