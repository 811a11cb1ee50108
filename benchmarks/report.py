"""How long a report of 200 runs takes, and how large its page is, next to one without maps.

    python benchmarks/report.py [--repeats 3] [--json FILE]

Makes 200 run directories (two recipes, ten methods, ten seeds, 100 epochs, test outputs of 1200 rows) and
reports them as a user does, in a process of its own. Seconds are those of the whole process, its imports
included, in the shortest of the repeats: on the clock, and of a processor core, so that other work on the
machine does not show. The report is held to the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from support.run_tree import large_study, write_runs  # noqa: E402

LIMIT_SECONDS, LIMIT_MEGABYTES = 10.0, 10.0
CASES = {"whole": (), "without maps": ("--no-maps",)}


def measure(runs: Path, out: Path, options: tuple[str, ...], repeats: int) -> dict[str, float]:
    """Return seconds on the clock and of a core, megabytes of the page and number of figures."""
    command = [sys.executable, "-m", "drcli", "report", str(runs), "--out", str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    clock, core = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), processor_seconds()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        clock.append(time.perf_counter() - start)
        core.append(processor_seconds() - used)
    figures = len(list(out.with_name(f"{out.stem}_figures").glob("*.svg")))
    megabytes = out.stat().st_size / 1e6
    return {"seconds": min(clock), "core_seconds": min(core), "megabytes": megabytes, "figures": figures}


def processor_seconds() -> float:
    """Return the processor time of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure, print a table, and end with 1 where a limit is passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = write_runs(Path(folder) / "runs", large_study())
        found = {
            name: measure(runs, Path(folder) / f"{place}.html", options, args.repeats)
            for place, (name, options) in enumerate(CASES.items())
        }
    for name, one in found.items():
        times = f"{one['core_seconds']:5.1f} s of a core, {one['seconds']:5.1f} s on the clock"
        print(f"{name:>14}: {times}  {one['megabytes']:5.2f} MB  {one['figures']:3.0f} figures")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    whole = found["whole"]
    if whole["core_seconds"] > LIMIT_SECONDS or whole["megabytes"] > LIMIT_MEGABYTES:
        sys.exit(f"over the limits of {LIMIT_SECONDS:.0f} s and {LIMIT_MEGABYTES:.0f} MB")


if __name__ == "__main__":
    main()
