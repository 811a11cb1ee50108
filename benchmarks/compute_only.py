"""The ceiling: the same steps on one batch that is on the device already, and drcli's share of it.

    python benchmarks/compute_only.py [--dataset digits|cremad-size|RECIPE] [--repeats 5] [--device auto]
        [--json FILE] [KEY=VALUE ...]

The training pass is held against as many rows of one resident batch through the same step, the whole
epoch against that and the forward passes of val; what is missing is data, scores, files and the loop. The
three take turns. Work is counted in floating-point operations of convolutions and matrix products, and
held against the largest rate that a matrix product reaches here at the run's precision (on a GPU that has TF32,
convolutions of float32 use it, and so does that product). Last, one epoch runs
under torch's profiler, which slows it down, for the operators that take most of the time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import measuring  # noqa: E402
from benchmarks.datasets import add_options, data_of, joint_run, scratch  # noqa: E402
from benchmarks.measuring import EPOCHS, percent, ratio, seconds_of  # noqa: E402
from benchmarks.operators import Operator, operators_of, show_operators  # noqa: E402
from benchmarks.ours import Ours  # noqa: E402
from drcli.data.batches import Batch  # noqa: E402
from drcli.data.prepared import PreparedDataset  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.recipe.schema import Recipe  # noqa: E402
from drcli.relearning.features import evaluating  # noqa: E402

PRODUCT = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices whose product is the measure of the device."""


@dataclass(frozen=True)
class Found:
    """What was measured; seconds are medians over turns.

    Attributes:
        epoch: seconds of an epoch: training pass, evaluation, files.
        training_pass: seconds of the training pass alone.
        steps: seconds of as many rows on one resident batch.
        forward: seconds of as many rows as val has, forward only, on one resident batch.
        share_of_pass: steps / training_pass.
        share_of_epoch: (steps + forward) / epoch.
        operations: floating-point operations of a training step.
        rate: operations a second while training on the resident batch.
        peak: operations per second of a large matrix product.
        share_of_peak: rate / peak.
        operators: of one more epoch, by their time.
    """

    epoch: float
    training_pass: float
    steps: float
    forward: float
    share_of_pass: float
    share_of_epoch: float
    operations: float
    rate: float
    peak: float
    share_of_peak: float
    operators: list[Operator]


class Resident:
    """The run's step and forward pass on batches that do not change.

    Args:
        ours: the run.
    """

    def __init__(self, ours: Ours) -> None:
        self.ctx, self.assembly = ours.trainer.ctx, ours.trainer.assembly
        self.method = self.assembly.method
        self.batch = self._first("train", self.ctx.training.batch_size, torch.Generator().manual_seed(0))
        self.val = self._first("val", self.assembly.eval_batch_size, None)

    def _first(self, split: str, size: int, augment: torch.Generator | None) -> Batch:
        batches = self.assembly.batches(split)
        return batches.take(torch.arange(min(size, len(batches))), augment)

    def steps(self, count: int) -> None:
        """Take training steps."""
        self.ctx.model.train()
        self.assembly.extras.train()
        for _ in range(count):
            self.method.training_step(self.ctx, self.batch)

    def forward(self, count: int) -> None:
        """Run the model in evaluation mode."""
        with evaluating(self.ctx.model, self.assembly.extras):
            for _ in range(count):
                self.method.predict(self.ctx.model, self.val)

    def operations(self) -> float:
        """Floating-point operations of one step."""
        with FlopCounterMode(display=False) as counter:
            self.steps(1)
        return float(counter.get_total_flops())


def peak(device: torch.device, dtype: torch.dtype, side: int, *, tf32: bool = False) -> float:
    """Operations a second of the product of two square matrices, the best of five; of float32 with TF32 if wanted."""
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    best = min(seconds_of(lambda: left @ right, device) for _ in range(6))
    torch.set_float32_matmul_precision(before)
    return 2 * side**3 / best


def dtype_of(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What the run's products are computed in."""
    precision = recipe.training.precision
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and device.type == "cuda") else torch.float32


def measure(
    recipe: Recipe, dataset: PreparedDataset, device: torch.device, folder: Path, asked: argparse.Namespace
) -> Found:
    """Epochs and resident batches in turns."""
    ours = Ours(recipe, dataset, device, folder)
    resident = Resident(ours)
    # Whole batches are timed, and counted as the rows they have; an epoch's last batch is smaller.
    counts = {
        "train": -(-dataset.info.rows["train"] // len(resident.batch.labels)),
        "val": -(-dataset.info.rows["val"] // len(resident.val.labels)),
    }
    each = EPOCHS[device.type]
    operations = resident.operations() if recipe.training.compile == "off" else float("nan")
    seconds = measuring.in_turns(
        {
            "epoch": partial(ours.epochs, each),
            "resident batch, training": lambda: resident.steps(counts["train"]),
            "resident batch, forward": lambda: resident.forward(counts["val"]),
        },
        device,
        warmup=asked.warmup,
        repeats=asked.repeats,
        limit=asked.seconds,
    )
    repeats = len(seconds["epoch"])
    whole = [taken / each for taken in seconds["epoch"]]
    single = ours.training_seconds(each * repeats)
    passes = [median(single[turn * each : (turn + 1) * each]) for turn in range(repeats)]
    to_rows = {
        "train": dataset.info.rows["train"] / (counts["train"] * len(resident.batch.labels)),
        "val": dataset.info.rows["val"] / (counts["val"] * len(resident.val.labels)),
    }
    steps = [to_rows["train"] * value for value in seconds["resident batch, training"]]
    forward = [to_rows["val"] * value for value in seconds["resident batch, forward"]]
    rate = operations * counts["train"] / median(seconds["resident batch, training"])
    convolutions = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    reached = peak(device, dtype_of(recipe, device), asked.side or PRODUCT[device.type], tf32=convolutions)
    return Found(
        epoch=median(whole),
        training_pass=median(passes),
        steps=median(steps),
        forward=median(forward),
        share_of_pass=ratio(steps, passes),
        share_of_epoch=ratio([a + b for a, b in zip(steps, forward, strict=True)], whole),
        operations=operations,
        rate=rate,
        peak=reached,
        share_of_peak=rate / reached,
        operators=operators_of(ours.epochs, device),
    )


def show(found: Found, title: str) -> None:
    """Print the table."""
    rows = [
        ("training pass", f"{found.training_pass:.3f}", f"{found.steps:.3f}", percent(found.share_of_pass)),
        ("whole epoch", f"{found.epoch:.3f}", f"{found.steps + found.forward:.3f}", percent(found.share_of_epoch)),
    ]
    measuring.table_of(title, ("", "s", "s of compute alone", "share"), rows)
    print(
        f"a step: {found.operations / 1e9:.2f} GFLOP; on the resident batch {found.rate / 1e9:.1f} GFLOP/s, "
        f"{percent(found.share_of_peak)} of the {found.peak / 1e9:.1f} of a large matrix product"
    )
    show_operators(found.operators, "operators of an epoch, by their own time")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = measuring.parser_of(__doc__)
    parser.add_argument("--warmup", type=int, default=1, help="turns that are not counted")
    parser.add_argument("--repeats", type=int, default=5, help="turns that are")
    measuring.add_seconds(parser)
    parser.add_argument("--side", type=int, help="side of the matrices that measure the device")
    add_options(parser)
    asked = parser.parse_intermixed_args(argv)
    with measuring.polite(), scratch(asked) as folder:
        device = resolve_device(asked.device)
        overrides, dataset = data_of(asked, folder)
        place = folder / "run"
        place.mkdir()
        found = measure(joint_run(asked.dataset, overrides), dataset, device, place, asked)
    show(found, f"{asked.dataset}: compute alone on {device.type}, {torch.get_num_threads()} threads")
    report = {"dataset": asked.dataset, "overrides": asked.overrides, **asdict(found)}
    measuring.write_report(asked.json, device, report)


if __name__ == "__main__":
    main()
