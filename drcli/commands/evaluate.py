"""`drcli eval`: the scores of a checkpoint on a split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from drcli.data.format import SPLITS
from drcli.engine.assemble import restore
from drcli.engine.device import resolve_device, set_determinism
from drcli.engine.evaluate import evaluate_split
from drcli.errors import UsageError
from drcli.recipe.source import parse_overrides, split_root
from drcli.report.render import titled
from drcli.runs.directory import checkpoint_at
from drcli.runs.wording import Selected, how_selected, percent


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
    }


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
    return titled(title, out)


def _which_epoch(result: dict[str, Any]) -> str:
    epoch, selected = result["epoch"], result["selected_epoch"]
    how = how_selected([Selected(result["selection"], result["monitor"])])
    return f"epoch {epoch}, {how}" if epoch == selected else f"epoch {epoch}, the last one; epoch {selected} was {how}"
