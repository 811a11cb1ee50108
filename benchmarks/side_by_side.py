"""A grid of small runs: one after another, against several at once on one device.

    python benchmarks/side_by_side.py [--runs 8] [--at-once 1,2,4,8] [--epochs 20] [--size 32] [--clips 1024]
        [--device auto] [--json FILE]

Made-up spectrograms of size x size, two modalities, `resnet_small` for each, D&R with one event, a seed per run. Each
run at once has a process and a model of its own, as with `drcli train --engine ray`. Processes are started, and have
trained an epoch, before the clock runs: it measures from the first run's start to the last one's end. Threads of the
CPU are divided among the processes. The runs of a grid have the same bits however many train at once, or it is said.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.generated import Made, make  # noqa: E402
from benchmarks.measuring import parser_of, peak_memory, polite, table_of, write_report  # noqa: E402
from benchmarks.scaling import Case, recipe_of  # noqa: E402
from data_prep.writing.rows import ArraySpec  # noqa: E402
from drcli import checkpoint  # noqa: E402
from drcli.data.prepared import open_dataset  # noqa: E402
from drcli.engine import run  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.runs.planned import PlannedRun  # noqa: E402
from drcli.watch.events import Listener  # noqa: E402


@dataclass(frozen=True)
class Job:
    """One run of the grid.

    Attributes:
        root: the prepared arrays.
        epochs: of training.
        seed: of the run.
        device: where it trains.
    """

    root: Path
    epochs: int
    seed: int
    device: str


@dataclass(frozen=True)
class Done:
    """What a run left: a digest of its weights, and MiB that its process had on the device at most."""

    digest: str
    device_mib: float | None


@dataclass(frozen=True)
class Found:
    """What a grid took.

    Attributes:
        at_once: runs that trained at the same time.
        seconds: of all runs.
        faster: how many times faster than one after another; None where that was not measured.
        device_mib: MiB that one process had on the device at most; None on a CPU.
        same_bits: whether every run ended with the weights that it has in the first grid.
    """

    at_once: int
    seconds: float
    faster: float | None
    device_mib: float | None
    same_bits: bool


def train(job: Job) -> Done:
    """Do one run."""
    device = resolve_device(job.device)
    recipe = recipe_of(Case(), job.root, job.epochs)
    dataset = open_dataset(job.root)
    with tempfile.TemporaryDirectory() as folder:
        planned = PlannedRun(recipe.for_run(recipe.method, job.seed), tuple(recipe.modalities), Path(folder))
        run.execute(planned, dataset, device=device, listener=Listener())
        weights = checkpoint.load(Path(folder) / "last.pt")["model"]
    found = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return Done(found.hexdigest(), peak_memory(device)["device"])


def ready(job: Job, threads: int, barrier: Barrier) -> None:
    """Prepare a process: what is imported and loaded at the first use is there, and all others are as far."""
    torch.set_num_threads(threads)
    train(job)
    barrier.wait()


def grid(jobs: Sequence[Job], warm: Job, at_once: int) -> tuple[float, list[Done]]:
    """Do all runs, some at once; their seconds, and what they left."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(at_once + 1)
    threads = max(1, (os.cpu_count() or 1) // at_once)
    with ProcessPoolExecutor(at_once, mp_context=context, initializer=ready, initargs=(warm, threads, barrier)) as pool:
        waiting = [pool.submit(os.getpid) for _ in range(at_once)]  # starts the processes
        barrier.wait(timeout=600)
        for one in waiting:
            one.result()
        started = time.perf_counter()
        done = list(pool.map(train, jobs))
        return time.perf_counter() - started, done


def measure(jobs: Sequence[Job], warm: Job, counts: Sequence[int]) -> list[Found]:
    """The grid, with so many runs at once."""
    found: list[Found] = []
    digests: list[str] = []
    for at_once in counts:
        seconds, done = grid(jobs, warm, at_once)
        digests = digests or [one.digest for one in done]
        memory = [one.device_mib for one in done if one.device_mib is not None]
        alone = next((one.seconds for one in found if one.at_once == 1), seconds if at_once == 1 else None)
        found.append(
            Found(
                at_once=at_once,
                seconds=seconds,
                faster=None if alone is None else alone / seconds,
                device_mib=max(memory, default=None),
                same_bits=digests == [one.digest for one in done],
            )
        )
        print(f"{at_once} at once: {seconds:.2f} s", file=sys.stderr)
    return found


def show(found: Sequence[Found], runs: int, title: str) -> None:
    """Print the table."""
    rows = [
        (
            f"{one.at_once}",
            f"{one.seconds:.2f}",
            f"{one.seconds / runs:.2f}",
            "-" if one.faster is None else f"{one.faster:.2f}",
            "-" if one.device_mib is None else f"{one.device_mib:.0f}",
            "yes" if one.same_bits else "no",
        )
        for one in found
    ]
    table_of(title, ("runs at once", "s", "s / run", "times faster", "device MiB per run", "same bits"), rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--runs", type=int, default=8, help="runs of the grid")
    parser.add_argument(
        "--at-once", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2, 4, 8], help="how many"
    )
    parser.add_argument("--epochs", type=int, default=20, help="of each run; 3 or more have an event")
    parser.add_argument("--size", type=int, default=32, help="side of the spectrograms")
    parser.add_argument("--clips", type=int, default=Case.clips, help="training clips")
    asked = parser.parse_args(argv)
    with polite(), tempfile.TemporaryDirectory() as folder:
        device = resolve_device(asked.device)
        rows = {"train": asked.clips, "val": max(12, asked.clips // 4), "test": max(12, asked.clips // 4)}
        spec = ArraySpec((1, asked.size, asked.size), "float16")
        root = make(Path(folder) / "arrays", Made("generated", 6, rows, {"m0": spec, "m1": spec})).root
        jobs = [Job(root, asked.epochs, seed, device.type) for seed in range(asked.runs)]
        found = measure(jobs, Job(root, 1, 0, device.type), asked.at_once)
    show(found, asked.runs, f"{asked.runs} runs of {asked.epochs} epochs on {device.type}")
    report = {"runs": asked.runs, "epochs": asked.epochs, "clips": asked.clips, "size": asked.size}
    write_report(asked.json, device, {**report, "results": [asdict(one) for one in found]})


if __name__ == "__main__":
    main()
