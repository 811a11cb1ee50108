"""`drcli prepare`: from the official download to a prepared dataset."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from drcli.data.format import DatasetInfo
from drcli.errors import UsageError
from drcli.names import DATASETS
from drcli.recipe.load import load_recipe, only
from drcli.recipe.schema import Recipe
from drcli.recipe.shipped import find_recipe
from drcli.report.render import titled
from drcli.watch.console import stages


@dataclass(frozen=True)
class PrepareRequest:
    """What the command line asks for; see `drcli prepare --help`."""

    target: str
    overrides: Sequence[str]
    source: Path | None
    out: Path | None
    workers: int
    limit: int | None
    fresh: bool
    max_bad: str = "1%"
    split_dir: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset and what it took.

    Attributes:
        info: its `dataset.json`.
        root: where it is.
        seconds: what this command took.
    """

    info: DatasetInfo
    root: Path
    seconds: float


def prepare(request: PrepareRequest, progress: Console) -> Prepared:
    """Prepare what a request asks for.

    Raises:
        DrcliError: bad usage or recipe, or a source that is missing or unreadable.
    """
    max_bad = parse_share(request.max_bad)
    overrides = list(request.overrides)
    if request.split_dir is not None:
        overrides.append(f"dataset.prepare.split_dir={json.dumps(str(request.split_dir))}")
    recipe = load_recipe(find_recipe(request.target), overrides, only())
    if request.out is not None:
        recipe = replace(recipe, dataset=replace(recipe.dataset, root=request.out))
    return prepare_recipe(
        recipe,
        progress,
        source=request.source,
        workers=request.workers,
        limit=request.limit,
        fresh=request.fresh,
        max_bad=max_bad,
    )


def parse_share(text: str) -> float:
    """Return a share in [0, 1], written as "1%" or as "0.01".

    Raises:
        UsageError: it is neither.
    """
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise UsageError(f"--max-bad is {text!r}; write a share such as 1% or 0.01, from 0 to 100%")
    return share


def prepare_recipe(
    recipe: Recipe,
    progress: Console,
    *,
    source: Path | None = None,
    workers: int = 1,
    limit: int | None = None,
    fresh: bool = False,
    max_bad: float = 0.01,
) -> Prepared:
    """Prepare a recipe's dataset, showing progress and warnings."""
    block = recipe.dataset
    preparer = DATASETS.load(block.name)(block.prepare)
    return run_preparer(
        preparer,
        progress,
        root=block.root,
        source=source,
        workers=workers,
        limit=limit,
        fresh=fresh,
        max_bad=max_bad,
    )


def run_preparer(preparer: Any, progress: Console, *, root: Path, **options: Any) -> Prepared:
    """Let a preparer work, showing progress and warnings.

    Args:
        preparer: of a dataset.
        progress: where to show them.
        root: folder of the prepared dataset.
        options: see `data_prep.base.Preparer.run`.
    """
    started = time.perf_counter()
    display, advance = stages(progress, f"preparing {preparer.name}")
    display.disable = not progress.is_interactive  # else it would leave an empty line
    with display:
        info = preparer.run(
            **{"source": None, **options},
            out=root,
            progress=advance,
            warn=lambda text: progress.print(Text(text, style="yellow")),
            note=lambda text: progress.print(Text(text)),
        )
    return Prepared(info, root, time.perf_counter() - started)


def to_json(prepared: Prepared) -> dict[str, Any]:
    """Return the object of `drcli prepare --json`."""
    info = prepared.info
    return {
        "dataset": info.name,
        "root": str(prepared.root),
        "classes": list(info.classes),
        "samples": dict(info.samples),
        "rows": dict(info.rows),
        "modalities": {m: {"shape": list(spec.shape), "dtype": spec.dtype} for m, spec in info.modalities.items()},
        "settings": dict(info.settings),
        "source": dict(info.source),
        "fingerprint": info.fingerprint,
        "seconds": prepared.seconds,
    }


def table(prepared: Prepared) -> Group:
    """Return what was prepared, one row per split."""
    info = prepared.info
    out = Table()
    for name in ("split", "samples", "rows", *info.modalities):
        out.add_column(name, justify="left" if name == "split" else "right")
    for split, rows in info.rows.items():
        shapes = [f"{spec.dtype} {' x '.join(map(str, spec.shape))}" for spec in info.modalities.values()]
        out.add_row(split, str(info.samples[split]), str(rows), *shapes)
    return titled(f"{info.name} in {prepared.root}: {len(info.classes)} classes", out)
