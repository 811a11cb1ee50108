"""A grid with --jobs N against one run after another: how many times faster it ends.

    python benchmarks/jobs.py [--recipe digits] [--method joint,unimodal,ogm_ge,diagnose_relearn] [--seeds 0,1]
        [--epochs 4] [--jobs 2] [--repeats 3] [--device auto] [--json FILE] [KEY=VALUE ...]

Each turn is `drcli train` twice, in a process of its own with an empty folder: with --jobs 1, which trains one run
after another with a thread for each core, and with --jobs N, which shares the cores out. All that a user waits for
is counted, from the start of the command to its table. The two take turns, and the ratio is the median of those
within a turn. Both must end with the same runs; their accuracies may differ by rounding, since a sum in two threads
is not the sum in one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import in_turns, parser_of, polite, ratio, table_of, write_report  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402
from drcli.errors import RunError  # noqa: E402

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Grid:
    """The grid as a command, and what it ended with last.

    Attributes:
        arguments: of `drcli train`.
        jobs: how many runs at once.
        result: the object that it printed.
    """

    arguments: Sequence[str]
    jobs: int
    result: dict[str, Any] | None = None

    def __call__(self) -> None:
        """Train it in a folder of its own."""
        with tempfile.TemporaryDirectory() as out:
            command = (sys.executable, "-m", "drcli", "train", *self.arguments, "--jobs", str(self.jobs), "--out", out)
            done = subprocess.run([*command, "--json"], env=_unlimited(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RunError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr}")
        self.result = json.loads(done.stdout)

    def runs(self) -> list[tuple[Any, ...]]:
        """Which runs it ended with."""
        return [(run["method"], run.get("modality"), run["seed"]) for run in (self.result or {}).get("runs", [])]


def _unlimited() -> dict[str, str]:
    """The environment, without limits on threads: both take all cores."""
    return {**{k: v for k, v in os.environ.items() if k not in THREADS}, "PYTHONPATH": str(ROOT)}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--recipe", default="digits", help="recipe of the grid")
    parser.add_argument("--method", default="joint,unimodal,ogm_ge,diagnose_relearn", help="labels, as for drcli train")
    parser.add_argument("--seeds", default="0,1", help="seeds, as for drcli train")
    parser.add_argument("--epochs", type=int, default=4, help="of each run")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="fields of the recipe")
    asked = parser.parse_args(argv)
    with polite():
        device = resolve_device(asked.device)
        grid = (asked.recipe, f"training.epochs={asked.epochs}", *asked.overrides, "--device", device.type)
        arguments = (*grid, "--method", asked.method, "--seeds", asked.seeds)
        one, many = Grid(arguments, 1), Grid(arguments, asked.jobs)
        names = ("one after another", f"{asked.jobs} at once")
        seconds = in_turns(dict(zip(names, (one, many), strict=True)), device, warmup=0, repeats=asked.repeats)
        if one.runs() != many.runs():
            raise RunError(f"different runs: {one.runs()} and {many.runs()}")
    faster = ratio(seconds[names[0]], seconds[names[1]])
    rows = [(name, f"{median(seconds[name]):.1f}", f"{len(one.runs())}") for name in names]
    table_of(f"{asked.recipe}: {faster:.2f} times faster", ("grid", "seconds", "runs"), rows)
    write_report(asked.json, device, {"seconds": seconds, "ratio": faster, "runs": len(one.runs())})


if __name__ == "__main__":
    main()
