"""Time and memory against the number of clips, modalities and classes.

    python benchmarks/scaling.py [--axes clips,modalities,classes] [--repeats 3] [--epochs 4] [--size 64]
        [--device auto] [--json FILE]

Made-up spectrograms of size x size, `resnet_small` for each, D&R with one event. One number varies, the
others stay at the base: 1,024 clips, 2 modalities, 6 classes; val and test have a quarter of the clips.
Every run has a process of its own, so that its memory is its own, and the cases of an axis take turns;
seconds are medians over repeats, memory is the largest. The memory of a process counts the pages of the
arrays' memory maps that it touched, which the kernel can take back.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.generated import Made, make  # noqa: E402
from benchmarks.measuring import parser_of, peak_memory, polite, table_of, write_report  # noqa: E402
from benchmarks.profiling import Profile, profile, shortened  # noqa: E402
from data_prep.writing.rows import ArraySpec  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.errors import UsageError  # noqa: E402
from drcli.recipe.load import recipe_from_dict  # noqa: E402
from drcli.recipe.schema import Recipe  # noqa: E402


@dataclass(frozen=True)
class Case:
    """How much of everything there is.

    Attributes:
        clips: training rows.
        modalities: their number.
        classes: their number.
    """

    clips: int = 1024
    modalities: int = 2
    classes: int = 6


AXES = {"clips": (256, 1024, 4096), "modalities": (1, 2, 4), "classes": (6, 31, 101)}


@dataclass(frozen=True)
class Found:
    """What one case took.

    Attributes:
        case: how much there was of everything.
        epoch: seconds of an epoch without diagnosis, median.
        event: seconds of a diagnosis with re-learning, median.
        probes: seconds of the linear probes, median.
        process: MiB of the process, the largest.
        device: MiB on the device, the largest; None on a CPU.
    """

    case: Case
    epoch: float
    event: float
    probes: float
    process: float
    device: float | None


@dataclass(frozen=True)
class Once:
    """One run of a case: where its time went, and its memory in MiB as `peak_memory` gives it."""

    profile: Profile
    memory: dict[str, float | None]


def cases_of(axes: Sequence[str], sizes: Sequence[int] | None) -> dict[str, list[Case]]:
    """The cases by axis.

    Raises:
        UsageError: an axis is unknown.
    """
    unknown = [axis for axis in axes if axis not in AXES]
    if unknown:
        raise UsageError(f"--axes: {unknown[0]!r} is not one of {', '.join(AXES)}")
    return {axis: [replace(Case(), **{axis: size}) for size in sizes or AXES[axis]] for axis in axes}


def recipe_of(case: Case, root: Path, epochs: int) -> Recipe:
    """D&R over the made-up modalities; "digits" only stands for a dataset that needs no download."""
    names = [f"m{number}" for number in range(case.modalities)]
    raw = {
        "name": "scaling",
        "dataset": {"name": "digits", "root": str(root)},
        "modalities": {m: {"backbone": "resnet_small", "stem_stride": 2} for m in names},
        "fusion": "concat",
        "method": "diagnose_relearn",
        "methods": {"diagnose_relearn": {}},
        "training": {"epochs": epochs + 1, "batch_size": 64, "optimizer": {"name": "sgd", "lr": 0.02}},
    }
    return shortened(recipe_from_dict(raw, where="benchmarks/scaling.py"), epochs)


def once(case: Case, size: int, epochs: int, device: str) -> Once:
    """Make the arrays, and do one run; in a process of its own."""
    for name in ("cluster", "linear_model"):  # the seconds of an import do not depend on the size
        import_module(f"sklearn.{name}")
    rows = {"train": case.clips, "val": max(case.classes, case.clips // 4), "test": case.clips // 4}
    spec = ArraySpec((1, size, size), "float16")
    made = Made("generated", case.classes, rows, {f"m{number}": spec for number in range(case.modalities)})
    where = resolve_device(device)
    with tempfile.TemporaryDirectory() as folder:
        dataset = make(Path(folder) / "arrays", made)
        found = profile(recipe_of(case, dataset.root, epochs), dataset, where, Path(folder) / "run")
    return Once(found, peak_memory(where))


def measure(cases: Sequence[Case], size: int, epochs: int, device: str, repeats: int) -> list[Found]:
    """All cases of an axis, in turns."""
    runs: dict[Case, list[Once]] = {case: [] for case in cases}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for turn in range(repeats):
            for case in cases:
                runs[case].append(pool.submit(once, case, size, epochs, device).result())
                print(f"{case}: {runs[case][-1].profile.total:.2f} s (turn {turn + 1} of {repeats})", file=sys.stderr)
    return [summary(case, found) for case, found in runs.items()]


def summary(case: Case, runs: Sequence[Once]) -> Found:
    """Medians of the seconds and the largest memory of the runs of a case."""
    on_device = [one.memory["device"] for one in runs if one.memory["device"] is not None]
    return Found(
        case=case,
        epoch=median(one.profile.epoch for one in runs),
        event=median(one.profile.event or 0.0 for one in runs),
        probes=median(one.profile.parts["probes"] for one in runs),
        process=max(one.memory["process"] or 0.0 for one in runs),
        device=max(on_device, default=None),
    )


def show(axis: str, found: Sequence[Found]) -> None:
    """Print the table of an axis."""
    columns = (axis, "s / epoch", "samples x modalities / s", "s / event", "s of probes", "process MiB", "device MiB")
    rows = [
        (
            f"{getattr(one.case, axis):,}",
            f"{one.epoch:.3f}",
            f"{one.case.clips * one.case.modalities / one.epoch:.0f}",
            f"{one.event:.3f}",
            f"{one.probes:.3f}",
            f"{one.process:.0f}",
            "-" if one.device is None else f"{one.device:.0f}",
        )
        for one in found
    ]
    table_of(f"against {axis}", columns, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table an axis, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--axes", default=",".join(AXES), help="what varies, separated by commas")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], help="instead of ours")
    parser.add_argument("--size", type=int, default=64, help="side of the spectrograms")
    parser.add_argument("--epochs", type=int, default=4, help="of each run; 3 or more have an event")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args(argv)
    found: list[Found] = []
    with polite():
        device = resolve_device(asked.device)
        if asked.epochs < 3:
            raise UsageError(f"--epochs {asked.epochs}: must be 3 or more, for a diagnosis to happen")
        for axis, cases in cases_of(asked.axes.split(","), asked.sizes).items():
            rows = measure(cases, asked.size, asked.epochs, device.type, asked.repeats)
            show(axis, rows)
            found += rows
    report = {"epochs": asked.epochs, "size": asked.size, "results": [asdict(one) for one in found]}
    write_report(asked.json, device, report)


if __name__ == "__main__":
    main()
