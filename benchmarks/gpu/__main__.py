"""Everything that is measured on a GPU, in one command, or in three of at most nine minutes.

    python -m benchmarks.gpu [--out gpu-results] [--part 1|2|3] [--steps NAME,NAME] [--budget SECONDS]
        [--device cuda|cpu] [--tiny] [--wheels gpu-wheels] [--scratch DIR]
    python -m benchmarks.gpu --report [--out gpu-results]

`make gpu` calls it. Each step is one of the other benchmarks in a process of its own, and its result is a file in the
folder of results, written when the step ends: a step whose file is there, of the same code, is not done again. A step
that fails is noted with its message, and the next one begins. Where the budget is short, steps are, and say so.
Only made-up data is used. What the interpreter lacks is unpacked from wheels; `packages.txt` says what it must have.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu.interpreter import complaints, environment, unpack  # noqa: E402
from benchmarks.gpu.report import report  # noqa: E402
from benchmarks.gpu.running import Place, Session, called, say  # noqa: E402
from benchmarks.gpu.steps import Step, all_steps  # noqa: E402

BUDGET, PART_BUDGET = 1500.0, 515.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of the results")
    found.add_argument("--part", type=int, choices=(1, 2, 3), help="of three; all by default")
    found.add_argument("--steps", help="only these, separated by commas")
    found.add_argument(
        "--budget", type=float, help=f"seconds for all steps; {BUDGET:.0f}, for one part {PART_BUDGET:.0f}"
    )
    found.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    found.add_argument("--tiny", action="store_true", help="only show that the chain holds")
    found.add_argument("--wheels", type=Path, default=Path("gpu-wheels"), help="folder of wheels")
    found.add_argument("--scratch", type=Path, help="folder for made-up arrays, kept; 28 GB of disk")
    found.add_argument("--report", action="store_true", help="print the tables of the results that are there")
    return found


def no_gpu(device: str, site: Path) -> Iterator[str]:
    """Yield that there is no GPU, if one is asked for and torch sees none."""
    look = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"
    if device == "cuda" and called([sys.executable, "-c", look], environment(site), 300)[0] != 0:
        yield "no GPU: torch sees no CUDA device here; only DEVICE=cpu TINY=1 (--device cpu --tiny) does without"


def chosen(asked: argparse.Namespace) -> list[Step]:
    """Return the steps of the part that is asked for, or those that are named."""
    steps = [step for step in all_steps() if asked.part in {None, step.part}]
    if asked.steps is None:
        return steps
    names = asked.steps.split(",")
    unknown = set(names) - {step.name for step in steps}
    if unknown:
        sys.exit(f"--steps: {', '.join(sorted(unknown))}: not among {', '.join(step.name for step in steps)}")
    return [step for step in steps if step.name in names]


def run(asked: argparse.Namespace) -> int:
    """Do the steps, and return how many are not done."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the step in progress is ended, too
    out = asked.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="drcli-gpu-") as folder:
        site = Path(folder) / "site"
        site.mkdir()
        problems = list(complaints(unpack(asked.wheels, site))) or list(no_gpu(asked.device, site))
        if problems:
            sys.exit("\n".join(problems))
        scratch = (asked.scratch or Path(folder) / "scratch").resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        steps = chosen(asked)
        budget = asked.budget or (BUDGET if asked.part is None else PART_BUDGET)
        undone = Session(Place(out, site, scratch, asked.device, asked.tiny), budget).do(steps)
    say(f"{len(steps) - undone} of {len(steps)} steps are done; the results are in {asked.out}")
    return undone


def main(argv: Sequence[str] | None = None) -> None:
    """Do the steps, or print the tables."""
    asked = parser().parse_args(argv)
    if asked.report:
        print(report(asked.out))
        return
    sys.exit(1 if run(asked) else 0)


if __name__ == "__main__":
    main()
