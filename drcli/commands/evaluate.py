"""`drcli eval`: the scores of a checkpoint on a split, and without modalities or under noise those of many runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Group
from rich.table import Table

from drcli.commands.conditions import Asked, check_names, is_grid, runs_below
from drcli.data.format import SPLITS
from drcli.engine.assemble import Restored, restore
from drcli.engine.conditions import Wanted, measure
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.evaluate import evaluate_split, num_parameters
from drcli.errors import DataError, UsageError
from drcli.recipe.source import parse_overrides, split_root
from drcli.report.conditions import Seed, condition_tables
from drcli.report.render import rich_table, titled
from drcli.runs.conditions import Conditions
from drcli.runs.directory import RunDirectory, checkpoint_at
from drcli.runs.measures import MEASURES, Cost, Measure, Measures
from drcli.runs.wording import Selected, how_selected, mean_and_spread, percent

NOTHING = Asked()
KEYS = ("absent", "subsets", "missing", "noise")
"""Keys of the output beside the plain scores."""
UNFINISHED = "the run is not finished: {epochs_done} of {epochs} epochs"


def evaluate(
    checkpoint: Path,
    overrides: Sequence[str],
    split: str,
    device: str,
    asked: Asked = NOTHING,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Return the object of `drcli eval --json`.

    What is found without modalities and under noise on the test split is kept in the run directory, where that is
    what `checkpoint` is.

    Args:
        checkpoint: a checkpoint.pt or last.pt, or a run directory; or a folder of runs, see `evaluate_grid`.
        overrides: dataset.root=DIR, where the data was moved.
        split: train, val or test.
        device: auto, cpu or cuda.
        asked: subsets, missing samples and noise.
        tell: is told of each of several runs before it is scored.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or missing data.
    """
    if asks_for_many(checkpoint, asked):
        return evaluate_grid(checkpoint, overrides, split, device, asked, tell)
    wanted, root = asked.wanted(), _checked(checkpoint, overrides, split)
    restored, folder = _restored(checkpoint, root, device), checkpoint
    assembly = restored.assembly
    checkpoint = checkpoint_at(checkpoint)
    check_names(wanted, assembly.modalities)
    left = _unfinished(checkpoint)
    found = evaluate_split(assembly, split)
    measures = found.measures(assembly.dataset.info.classes)
    plain = {
        "checkpoint": str(checkpoint),
        "split": split,
        "epoch": restored.epoch,
        "selected_epoch": restored.selected_epoch,
        **({} if left is None else {"unfinished": {"epochs_done": left[0], "epochs": left[1]}}),
        "selection": assembly.recipe.selection,
        "monitor": assembly.recipe.monitor,
        **found.outputs.scores().to_dict(),
        "unimodal": {m: probe.to_dict() for m, probe in found.probes.items()},
        **({} if found.fused_probe is None else {"fused_probe": found.fused_probe}),
        **({} if measures is None else {"measures": measures.to_dict()}),
        "cost": _cost(checkpoint, num_parameters(assembly)).to_dict(),
    }
    return {**plain, **_shown(_measured(restored, split, wanted, folder))}


def evaluate_grid(
    folder: Path,
    overrides: Sequence[str],
    split: str,
    device: str,
    asked: Asked,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Return scores without modalities and under noise of every finished run below a folder, and keep them there.

    Args:
        folder: with runs below it.
        overrides: as for `evaluate`.
        split: as for `evaluate`.
        device: as for `evaluate`.
        asked: subsets, missing samples and noise.
        tell: as for `evaluate`.
    """
    wanted, root = asked.wanted(), _checked(folder, overrides, split)
    runs: list[dict[str, Any]] = []
    below = runs_below(folder, wanted)
    for run in below:
        tell(f"[{len(runs) + 1}/{len(below)}] {run.folder}")
        restored = _restored(run.folder, root, device)
        found = _measured(restored, split, wanted.of(run.modalities), run.folder)
        named = {"run": str(run.folder), "recipe": run.recipe_name, "name": run.name, "seed": run.seed}
        clean = {"accuracy": run.accuracy} if split == "test" else {}
        runs.append({**named, **clean, **_shown(found)})
    return {"split": split, "runs": runs}


def asks_for_many(path: Path, asked: Asked) -> bool:
    """Whether runs below a folder are meant: it is none, and a condition is asked for."""
    return is_grid(path) and not asked.wanted().is_empty


def _checked(checkpoint: Path, overrides: Sequence[str], split: str) -> Path | None:
    """Refuse what cannot be evaluated, and return the folder of the data where it is given."""
    if checkpoint.suffix == ".npz":
        raise UsageError(f"{checkpoint}: eval scores a checkpoint.pt or last.pt; `drcli diagnose` takes features")
    if split not in SPLITS:
        raise UsageError(f"--split {split}: must be one of {', '.join(SPLITS)}")
    root, unknown = split_root(parse_overrides(overrides))
    if unknown:
        raise UsageError(f"override {unknown[0].path}: eval takes only dataset.root=DIR; the rest is the checkpoint's")
    return root


def _restored(checkpoint: Path, root: Path | None, device: str) -> Restored:
    where: torch.device = resolve_device(device)
    restored = restore(checkpoint_at(checkpoint), where, root=root)
    set_determinism(restored.assembly.recipe.training.deterministic)
    return restored


def _measured(restored: Restored, split: str, wanted: Wanted, folder: Path) -> Conditions | None:
    """Return scores under conditions; those of the test split are kept in the run directory, if it is one."""
    possible = wanted.of(restored.assembly.modalities)
    if possible.is_empty:
        return None
    found = measure(restored.assembly, split, restored.epoch, possible)
    files = RunDirectory(folder)
    if split == "test" and folder.is_dir():
        files.write_conditions(found.over(files.conditions()))
    return found


def _shown(found: Conditions | None) -> dict[str, Any]:
    """Return scores under conditions as keys beside the plain ones; what was not asked for has none."""
    if found is None:
        return {}
    plain = found.to_dict()
    return {key: plain[key] for key in KEYS if plain.get(key)}


def _unfinished(checkpoint: Path) -> tuple[int, int] | None:
    """Return the epochs that a checkpoint's run has done and those of its recipe; None of a run that is finished.

    Of a checkpoint that lies elsewhere nothing is known, nor of one whose run cannot be read.
    """
    directory = RunDirectory(checkpoint.parent)
    with suppress(DataError):
        if directory.exists and directory.summary() is None:
            done = directory.count_epochs()
            return done, directory.recipe().epochs or done
    return None


def _cost(checkpoint: Path, parameters: int) -> Cost:
    """Return what the run of a checkpoint took, as it was measured then, so that a command repeats its output.

    Of a checkpoint that lies elsewhere, or in a run that is not finished, the parameters alone are known.
    """
    directory = RunDirectory(checkpoint.parent)
    with suppress(DataError):  # of a damaged summary: the checkpoint is what is scored
        summary = directory.summary() if directory.exists else None
        if summary is not None and summary.cost is not None and summary.cost.parameters == parameters:
            return summary.cost
    return Cost(parameters=parameters)


def table(result: dict[str, Any]) -> Group:
    """Return the scores as tables."""
    if "runs" in result:
        return Group(*_tables(result["runs"], result["split"], with_seeds=True))
    title = f"{result['checkpoint']} ({_which_epoch(result)}): split {result['split']}"
    out = Table()
    out.add_column("what")
    out.add_column("value", justify="right")
    out.add_row("accuracy", percent(result["accuracy"]))
    out.add_row("macro-F1", percent(result["macro_f1"]))
    out.add_row("samples", str(result["n"]))
    for m, found in result["unimodal"].items():
        out.add_row(f"{m} linear probe", percent(found["probe_accuracy"]))
    if "fused_probe" in result:
        out.add_row("fused linear probe", percent(result["fused_probe"]))
    for one, value in _measures_of(result):
        out.add_row(one.title, mean_and_spread(value, scale=one.scale, digits=one.digits))
    return Group(titled(title, out), *_tables([{**result, "name": "this run"}], result["split"], with_seeds=False))


def _tables(runs: Sequence[Mapping[str, Any]], split: str, *, with_seeds: bool) -> list[Group]:
    """Return the tables of scores under conditions; of runs of several recipes, names have that of the recipe."""
    several = len({run.get("recipe") for run in runs}) > 1
    methods: dict[str, list[Seed]] = {}
    for run in runs:
        shown = {key: run[key] for key in KEYS if key in run}
        found = Conditions.model_validate({"split": split, "epoch": 0, **shown})
        name = f"{run['recipe']} {run['name']}" if several else run["name"]
        methods.setdefault(name, []).append(Seed(found, run.get("accuracy")))
    return [rich_table(found) for found in condition_tables(methods, with_seeds=with_seeds)]


@dataclass(frozen=True)
class _Parts:
    """The parts of a result that measures are read from."""

    measures: Measures | None
    cost: Cost | None


def _measures_of(result: Mapping[str, Any]) -> Iterator[tuple[Measure, float]]:
    """Yield what was measured beside accuracy and probes."""
    measures = Measures.model_validate(result["measures"]) if "measures" in result else None
    shown = _Parts(measures, Cost.model_validate(result["cost"]))
    for one in MEASURES:
        value = one.value(shown)
        if value is not None:
            yield one, value


def _which_epoch(result: dict[str, Any]) -> str:
    epoch, selected = result["epoch"], result["selected_epoch"]
    how = how_selected([Selected(result["selection"], result["monitor"])])
    which = f"epoch {epoch}, {how}" if epoch == selected else f"epoch {epoch}, the last one; epoch {selected} was {how}"
    left = result.get("unfinished")
    return which if left is None else f"{which}; {UNFINISHED.format(**left)}"
