"""What a diagnosis of a part of the rows loses and saves: error of purity and gap, time, memory, share of training.

    python benchmarks/diagnosis_scale.py [--rows 200000] [--width 512] [--classes 309] [--samples 5000 10000 20000]
        [--seeds 3] [--restarts 1] [--kmeans torch] [--every 20] [--batches 20] [--device auto] [--json FILE]

Features are generated: overlapping classes in 32 dimensions behind a ReLU, those of validation more spread out. The
diagnosis of all rows of both splits is what the samples are compared with; of each sample means over seeds are shown.
Seconds on a CPU are those of the processor, so that other work on the machine shows less. Memory is what the process
has more at its worst moment than before; the features themselves are not counted.

The share of an event in training time is over `--every` epochs of `--rows` rows, with the encoders and the batch size
of the recipe `digits` on made-up inputs: a training step, the forward pass that encodes the sampled rows, and a
diagnosis of features as wide as these encoders', with the default settings, are timed in this run. An event has two
diagnoses, before and after the pull, of two modalities and two splits.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median

import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import now, parser_of, peak_memory, percent, polite, table_of, write_report
from drcli.diagnosis import MeasureSettings, ModalityDiagnosis, diagnose_modality
from drcli.engine.device import resolve_device
from drcli.models.build import build_model
from drcli.models.multimodal import MultimodalModel
from drcli.optim import build_optimizer
from drcli.recipe.load import load_recipe
from drcli.recipe.shipped import find_recipe
from drcli.relearning.features import evaluating

LATENT = 32
SPREADS = (0.6, 0.8)
"""Deviation of a class around its centre, in deviations of the centres: of train and of validation."""

SHAPES = {"audio": (1, 32, 32), "visual": (1, 16, 16)}
"""Of the made-up inputs, about those of `digits`."""

DIAGNOSES = 2
"""Of an event: before the pull, and after it for the log."""

Set = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Sampled:
    """What the diagnoses of samples of one size found, means over seeds.

    Attributes:
        sample: rows of each split; None for all.
        purity: of train.
        gap: purity gap.
        purity_error: absolute difference of the purities of train from that of all rows.
        gap_error: the same of the gap.
        seconds: of a diagnosis.
        memory: MiB more than before; None where the system does not tell.
        share: of an event in the training time; None for all rows, or where it was not asked for.
    """

    sample: int | None
    purity: float
    gap: float
    purity_error: float
    gap_error: float
    seconds: float
    memory: float | None
    share: float | None = None


@dataclass(frozen=True)
class Cost:
    """What training costs.

    Attributes:
        step: seconds of a training step.
        batch: rows of a step.
        row: seconds of encoding one row of all modalities.
        width: features of the encoders, the widest.
    """

    step: float
    batch: int
    row: float
    width: int


def clock(device: torch.device) -> float:
    """Seconds: of the processor on a CPU, of the wall where a GPU works."""
    return time.process_time() if device.type == "cpu" else now(device)


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that a piece of work takes by that clock."""
    started = clock(device)
    work()
    return clock(device) - started


def features_of(rows: int, width: int, classes: int, seed: int, spread: float) -> Set:
    """Return features (N, D) and labels (N,); the same classes for every seed."""
    fixed, generator = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, LATENT, generator=fixed)
    mixing = torch.randn(LATENT, width, generator=fixed) / LATENT**0.5
    labels = torch.randint(classes, (rows,), generator=generator)
    latent = centres[labels] + spread * torch.randn(rows, LATENT, generator=generator)
    return torch.relu(latent @ mixing), labels


def cost_of(device: torch.device, classes: int, batches: int) -> Cost:
    """Return what a step and the encoding of a row take, medians over batches."""
    recipe = load_recipe(find_recipe("digits"))
    model = build_model(recipe.modalities, recipe.fusion, shapes=SHAPES, num_classes=classes, seed=0).to(device)
    optimizer = build_optimizer(recipe.training.optimizer, list(model.parameters()), fused=False)
    size = recipe.training.batch_size
    inputs = {m: torch.randn(size, *shape, device=device) for m, shape in SHAPES.items()}
    labels = torch.randint(classes, (size,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs).logits, labels).backward()
        optimizer.step()

    steps = [seconds_of(step, device) for _ in range(batches + 3)][3:]
    width = max(model.fusion.widths.values())
    return Cost(median(steps), size, _encoding(model, inputs, size, device, batches), width)


def _encoding(model: MultimodalModel, inputs: dict[str, Tensor], size: int, device: torch.device, count: int) -> float:
    with evaluating(model):
        return median(seconds_of(lambda: model.encode(inputs), device) for _ in range(count)) / size


def measured(train: Set, val: Set, settings: MeasureSettings, classes: int, seed: int) -> ModalityDiagnosis:
    """Return a diagnosis with its samples and starts drawn by a seed."""
    return diagnose_modality(*train, *val, num_classes=classes, settings=settings, lambda_=3.0, seed=seed)


def sampled(
    train: Set, val: Set, settings: MeasureSettings, classes: int, seeds: int, device: torch.device
) -> tuple[list[ModalityDiagnosis], float, float | None]:
    """Return the diagnoses of some seeds, the median of their seconds, and the memory that they took."""
    found, seconds = [], []
    before = _reset_peak()
    for seed in range(seeds):
        started = clock(device)
        found.append(measured(train, val, settings, classes, seed))
        seconds.append(clock(device) - started)
        print(f"sample {settings.sample}, seed {seed}: {seconds[-1]:.2f} s", file=sys.stderr)
    after = peak_memory(device)["process"]
    return found, median(seconds), None if before is None or after is None else after - before


def _reset_peak() -> float | None:
    """Forget the worst moment so far, and return the MiB in use; None where the system has no such switch."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    return peak_memory(torch.device("cpu"))["process"]


def share_of(sample: int, cost: Cost, rows: int, classes: int, every: int, device: torch.device) -> float:
    """Return the seconds of an event of a sample over those of `every` epochs of training."""
    train, val = (features_of(sample, cost.width, classes, seed, spread) for seed, spread in enumerate(SPREADS))
    there = [(x.to(device), y) for x, y in (train, val)]
    one = seconds_of(lambda: measured(there[0], there[1], MeasureSettings(), classes, 0), device)
    modalities = len(SHAPES)
    event = DIAGNOSES * (modalities * one + 2 * sample * cost.row)
    return event / (every * math.ceil(rows / cost.batch) * cost.step)


def measure(asked: argparse.Namespace, device: torch.device) -> tuple[Cost | None, list[Sampled]]:
    """Measure all rows, then each sample."""
    sets = [features_of(asked.rows, asked.width, asked.classes, seed, spread) for seed, spread in enumerate(SPREADS)]
    (train, val) = ((x.to(device), y) for x, y in sets)
    base = MeasureSettings(restarts=asked.restarts, kmeans=asked.kmeans)
    cost = cost_of(device, asked.classes, asked.batches) if asked.batches else None
    (whole,), seconds, memory = sampled(train, val, base, asked.classes, 1, device)
    rows = [Sampled(None, whole.purity_train, whole.gap, 0.0, 0.0, seconds, memory)]
    for sample in asked.samples:
        settings = base.model_copy(update={"sample": sample})
        found, seconds, memory = sampled(train, val, settings, asked.classes, asked.seeds, device)
        rows.append(
            Sampled(
                sample,
                fmean(one.purity_train for one in found),
                fmean(one.gap for one in found),
                fmean(abs(one.purity_train - whole.purity_train) for one in found),
                fmean(abs(one.gap - whole.gap) for one in found),
                seconds,
                memory,
                None if cost is None else share_of(sample, cost, asked.rows, asked.classes, asked.every, device),
            )
        )
        print(rows[-1], file=sys.stderr)
    return cost, rows


def show(rows: Sequence[Sampled], asked: argparse.Namespace) -> None:
    """Print the table."""
    columns = ("sample", "purity", "gap", "error of purity", "error of gap", "s", "MiB", "share of an event")
    cells = [
        (
            "all" if row.sample is None else f"{row.sample:,}",
            f"{row.purity:.4f}", f"{row.gap:.4f}", f"{row.purity_error:.4f}", f"{row.gap_error:.4f}",
            f"{row.seconds:.2f}", "-" if row.memory is None else f"{row.memory:.0f}", percent(row.share),
        )
        for row in rows
    ]  # fmt: skip
    title = f"{asked.rows:,} x {asked.width}, {asked.classes} classes, {asked.restarts} restarts, {asked.kmeans}"
    table_of(title, columns, cells)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--classes", type=int, default=309)
    parser.add_argument("--samples", type=int, nargs="+", default=[5_000, 10_000, 20_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--restarts", type=int, default=1)
    parser.add_argument("--kmeans", default="torch", choices=("torch", "sklearn"))
    parser.add_argument("--every", type=int, default=20, help="epochs between two events")
    parser.add_argument("--batches", type=int, default=20, help="training steps that are timed; 0: no share")
    asked = parser.parse_args(argv)
    with polite():
        device = resolve_device(asked.device)
        cost, rows = measure(asked, device)
    show(rows, asked)
    write_report(asked.json, device, {"cost": cost and asdict(cost), "samples": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
