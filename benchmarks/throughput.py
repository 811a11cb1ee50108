"""Training end to end, against a conventional loop, and without each of drcli's switches.

    python benchmarks/throughput.py --dataset avmnist|digits|cremad|cremad-size [--workers 2] [--repeats 5]
        [--device auto] [--variants NAME,NAME] [--json FILE] [KEY=VALUE ...]

An epoch is training on every row, evaluation of val, and the run's files. The conventional loop reads
JPEG or PNG and .npy files with PIL in worker processes, in fp32, and evaluates with Python loops; the
same model, optimiser, batch, rows and epochs. It is also given bf16 and channels_last, and measured with
its files only, that is without computing. All variants take turns in one process; seconds are medians
over turns, ratios medians of the ratios of a turn.

The last column says where the arrays are; variants that have them in the same place share them.
`cremad-size` makes arrays of the size of CREMA-D and needs 27 GB of disk; `--clips` takes fewer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.conventional import Conventional, Loaders, Loading, export, loaders_of  # noqa: E402
from benchmarks.datasets import CREMAD_SIZE, add_options, data_of, joint_run, scratch  # noqa: E402
from benchmarks.measuring import (  # noqa: E402
    EPOCHS,
    add_seconds,
    in_turns,
    now,
    parser_of,
    polite,
    ratio,
    table_of,
    write_report,
)
from benchmarks.ours import Ours  # noqa: E402
from drcli.data.prepared import PreparedDataset  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.errors import UsageError  # noqa: E402
from drcli.recipe.schema import Recipe  # noqa: E402

KNOWN = ("avmnist", "digits", "cremad", CREMAD_SIZE)
"""What the conventional loop can read."""

PICTURES = ("visual",)
BASE, FILES, OURS = "conventional", "conventional files only", "drcli"
Loop = Conventional | Loading | Ours

CONVENTIONAL = {
    BASE: ("precision=fp32", "channels_last=false"),
    f"{BASE} bf16": ("precision=bf16", "channels_last=false"),
    f"{BASE} channels_last": ("precision=fp32", "channels_last=true"),
    f"{BASE} bf16 channels_last": ("precision=bf16", "channels_last=true"),
    FILES: (),
}
SWITCHES = {
    "cpu": ("data=resident", "data=stream", "precision=bf16", "fused=on"),
    "cuda": ("data=stream", "precision=bf16", "fused=off", "compile=reduce-overhead"),
}
EVERYWHERE = ("channels_last=false", "compile=default", "deterministic=false")
"""Fields of `training`, each away from its default."""


@dataclass(frozen=True)
class Found:
    """What one variant took.

    Attributes:
        name: of the variant.
        start: seconds until its first epoch, compilation included.
        seconds: of an epoch, the median of the turns.
        repeats: of each turn.
        clips_per_second: training rows per second of an epoch.
        faster: how many times faster than the conventional loop; None where that was not measured.
        accuracy: on val after the last epoch; None where nothing is trained.
        data: where the arrays are, or the files.
        note: what the user should know, or the empty string.
    """

    name: str
    start: float
    seconds: float
    repeats: list[float]
    clips_per_second: float
    faster: float | None
    accuracy: float | None
    data: str
    note: str


def variants_of(device: torch.device) -> dict[str, tuple[str, ...]]:
    """Fields of `training` by variant, the conventional loop's first."""
    switched = {f"{OURS} {field}": (field,) for field in (*EVERYWHERE, *SWITCHES[device.type])}
    return {**CONVENTIONAL, OURS: (), **switched}


def chosen(asked: str | None, device: torch.device) -> dict[str, tuple[str, ...]]:
    """The variants of `--variants`, all by default.

    Raises:
        UsageError: one of them is unknown.
    """
    known = variants_of(device)
    names = list(known) if asked is None else [name.strip() for name in asked.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--variants: {unknown[0]!r} is not one of {', '.join(known)}")
    return {name: known[name] for name in names}


def loaders_for(recipe: Recipe, data: PreparedDataset, folder: Path, device: torch.device, workers: int) -> Loaders:
    """Write the conventional loop's files and return its loaders."""
    print("writing the conventional loop's files", file=sys.stderr)
    rows = export(recipe, data, folder, PICTURES)
    return loaders_of(rows, recipe.training.batch_size, workers, device)


def build(
    recipes: Mapping[str, Recipe], data: PreparedDataset, folder: Path, device: torch.device, workers: int
) -> tuple[dict[str, Loop], dict[str, float]]:
    """The loops by name, and the seconds it took to build each."""
    loops: dict[str, Loop] = {}
    start: dict[str, float] = {}
    conventional = [recipe for name, recipe in recipes.items() if name in CONVENTIONAL]
    loaders = loaders_for(conventional[0], data, folder / "files", device, workers) if conventional else {}
    placed: dict[str, Ours] = {}
    for number, (name, recipe) in enumerate(recipes.items()):
        place = folder / f"run {number}"
        place.mkdir()
        began = now(device)
        if name == FILES:
            loops[name] = Loading(loaders)
        elif name in CONVENTIONAL:
            loops[name] = Conventional(recipe, data, loaders, device, place / "best.pt")
        else:
            where = recipe.training.data
            loops[name] = placed[where] = Ours(recipe, data, device, place, placed.get(where))
        start[name] = now(device) - began
    return loops, start


def measure(asked: argparse.Namespace, device: torch.device, folder: Path) -> list[Found]:
    """Every variant, in turns.

    Raises:
        UsageError: the dataset or a variant is unknown.
    """
    if asked.dataset not in KNOWN:
        raise UsageError(f"--dataset {asked.dataset}: the conventional loop reads {', '.join(KNOWN)}")
    variants = chosen(asked.variants, device)
    # The conventional loop's spectrograms are float32, its pictures compressed: once more the arrays' bytes.
    overrides, data = data_of(asked, folder, times=2)
    recipes = {name: joint_run(asked.dataset, overrides, fields) for name, fields in variants.items()}
    loops, start = build(recipes, data, folder, device, asked.workers)
    each = asked.epochs or EPOCHS[device.type]
    works = {name: partial(loop.epochs, each) for name, loop in loops.items()}
    turns = in_turns(works, device, warmup=asked.warmup, repeats=asked.repeats, limit=asked.seconds)
    seconds = {name: [taken / each for taken in repeats] for name, repeats in turns.items()}
    rows = data.info.rows["train"]
    return [
        Found(
            name=name,
            start=start[name],
            seconds=median(seconds[name]),
            repeats=seconds[name],
            clips_per_second=rows / median(seconds[name]),
            faster=ratio(seconds[BASE], seconds[name]) if BASE in seconds else None,
            accuracy=loop.accuracy,
            data=loop.trainer.ctx.train.rows.describe() if isinstance(loop, Ours) else "small files",
            note=(loop.problem or "") if isinstance(loop, Ours) else "",
        )
        for name, loop in loops.items()
    ]


def show(found: Sequence[Found], title: str) -> None:
    """Print the table."""
    columns = ("variant", "s / epoch", "least", "most", "clips / s", "times faster", "start s", "val accuracy", "data")
    rows = [
        (
            one.name,
            *(f"{value:.3f}" for value in (one.seconds, min(one.repeats), max(one.repeats))),
            f"{one.clips_per_second:.0f}",
            "-" if one.faster is None else f"{one.faster:.2f}",
            f"{one.start:.1f}",
            "-" if one.accuracy is None else f"{one.accuracy:.3f}",
            one.data,
        )
        for one in found
    ]
    table_of(title, columns, rows)
    for one in found:
        if one.note:
            print(f"{one.name}: {one.note}")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the conventional loop")
    parser.add_argument("--warmup", type=int, default=1, help="turns of each variant that are not counted")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each variant that are")
    add_seconds(parser)
    parser.add_argument("--epochs", type=int, help="epochs of a turn; default: 1 on a CPU, 3 on a GPU")
    parser.add_argument("--variants", help="only these, separated by commas; the first column of the table names them")
    add_options(parser)
    asked = parser.parse_intermixed_args(argv)
    with polite(), scratch(asked) as folder:
        device = resolve_device(asked.device)
        found = measure(asked, device, folder)
    workers, threads = asked.workers, torch.get_num_threads()
    show(
        found,
        f"{asked.dataset}: an epoch on {device.type}, {threads} threads, {workers} workers of the conventional loop",
    )
    report = {"dataset": asked.dataset, "workers": workers, "overrides": asked.overrides}
    write_report(asked.json, device, {**report, "results": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
