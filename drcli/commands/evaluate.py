"""`drcli eval`: the scores of a checkpoint on a split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from drcli.data.format import SPLITS
from drcli.engine.assemble import restore
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.evaluate import evaluate_split, num_parameters
from drcli.errors import DataError, UsageError
from drcli.recipe.source import parse_overrides, split_root
from drcli.report.render import titled
from drcli.runs.directory import RunDirectory, checkpoint_at
from drcli.runs.measures import MEASURES, Cost, Measure, Measures
from drcli.runs.wording import Selected, how_selected, mean_and_spread, percent


def evaluate(checkpoint: Path, overrides: Sequence[str], split: str, device: str) -> dict[str, Any]:
    """Return the object of `drcli eval --json`.

    Args:
        checkpoint: a checkpoint.pt or last.pt, or a run directory.
        overrides: dataset.root=DIR, where the data was moved.
        split: train, val or test.
        device: auto, cpu or cuda.

    Raises:
        DrcliError: bad usage, a damaged checkpoint, or missing data.
    """
    if checkpoint.suffix == ".npz":
        raise UsageError(f"{checkpoint}: eval scores a checkpoint.pt or last.pt; `drcli diagnose` takes features")
    if split not in SPLITS:
        raise UsageError(f"--split {split}: must be one of {', '.join(SPLITS)}")
    root, unknown = split_root(parse_overrides(overrides))
    if unknown:
        raise UsageError(f"override {unknown[0].path}: eval takes only dataset.root=DIR; the rest is the checkpoint's")
    where = resolve_device(device)
    checkpoint = checkpoint_at(checkpoint)
    restored = restore(checkpoint, where, root=root)
    assembly = restored.assembly
    set_determinism(assembly.recipe.training.deterministic)
    found = evaluate_split(assembly, split)
    measures = found.measures(assembly.dataset.info.classes)
    return {
        "checkpoint": str(checkpoint),
        "split": split,
        "epoch": restored.epoch,
        "selected_epoch": restored.selected_epoch,
        "selection": assembly.recipe.selection,
        "monitor": assembly.recipe.monitor,
        **found.outputs.scores().to_dict(),
        "unimodal": {m: probe.to_dict() for m, probe in found.probes.items()},
        **({} if found.fused_probe is None else {"fused_probe": found.fused_probe}),
        **({} if measures is None else {"measures": measures.to_dict()}),
        "cost": _cost(checkpoint, num_parameters(assembly)).to_dict(),
    }


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
    """Return the scores as a table."""
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
    for one, value in _measured(result):
        out.add_row(one.title, mean_and_spread(value, scale=one.scale, digits=one.digits))
    return titled(title, out)


@dataclass(frozen=True)
class _Shown:
    """The parts of a result that measures are read from."""

    measures: Measures | None
    cost: Cost | None


def _measured(result: Mapping[str, Any]) -> Iterator[tuple[Measure, float]]:
    """Yield what was measured beside accuracy and probes."""
    measures = Measures.model_validate(result["measures"]) if "measures" in result else None
    shown = _Shown(measures, Cost.model_validate(result["cost"]))
    for one in MEASURES:
        value = one.value(shown)
        if value is not None:
            yield one, value


def _which_epoch(result: dict[str, Any]) -> str:
    epoch, selected = result["epoch"], result["selected_epoch"]
    how = how_selected([Selected(result["selection"], result["monitor"])])
    return f"epoch {epoch}, {how}" if epoch == selected else f"epoch {epoch}, the last one; epoch {selected} was {how}"
