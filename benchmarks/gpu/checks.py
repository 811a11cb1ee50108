"""The tests that need a GPU, counted.

    python benchmarks/gpu/checks.py [--graphs] [--workers N] [--device auto] [--json FILE]

`make test-gpu` collects all tests, for which all packages of the project must be there; this collects the files in
which a test is marked `gpu`. Tests of CUDA graphs, which compile for minutes, run with --graphs and are left out
without.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.measuring import parser_of, polite, table_of, write_report  # noqa: E402
from drcli.engine.device import resolve_device  # noqa: E402

GRAPHS = ROOT / "tests" / "gpu" / "test_graphs.py"
MARK = "pytest.mark.gpu"
KINDS = ("passed", "failed", "skipped")
SAID = 600  # characters of a failure's message that are kept


def files(*, graphs: bool) -> list[Path]:
    """Return the test files with tests that need a GPU."""
    if graphs:
        return [GRAPHS]
    own = (ROOT / "tests" / "gpu").glob("test_*.py")
    marked = [path for path in (ROOT / "tests").rglob("test_*.py") if MARK in path.read_text(encoding="utf-8")]
    return sorted({*own, *marked} - {GRAPHS})


def outcome(case: ET.Element) -> tuple[str, str]:
    """Return how a test ended, and why if it did not pass."""
    for kind, tags in {"failed": ("failure", "error"), "skipped": ("skipped",)}.items():
        for tag in tags:
            found = case.find(tag)
            if found is not None:
                said = f"{found.get('message') or ''}\n{found.text or ''}".strip()
                return kind, said[-SAID:] if kind == "failed" else said[:SAID]
    return "passed", ""


def counted(report: Path) -> dict[str, Any]:
    """Return the numbers of a report in JUnit's form, what failed and why, and the reasons of those skipped."""
    found = [(case, *outcome(case)) for case in ET.parse(report).getroot().iter("testcase")]
    kinds = [kind for _, kind, _ in found]
    return {
        **{kind: kinds.count(kind) for kind in KINDS},
        "failures": {
            f"{case.get('classname')}::{case.get('name')}": why for case, kind, why in found if kind == "failed"
        },
        "reasons": sorted({why.splitlines()[0] for _, kind, why in found if kind == "skipped" and why}),
        "slowest": sorted(((float(c.get("time", 0)), c.get("name")) for c, _, _ in found), reverse=True)[:5],
    }


def run(paths: Sequence[Path], workers: int) -> dict[str, Any]:
    """Run the tests marked `gpu` of some files, in several processes where pytest can.

    Raises:
        RuntimeError: pytest could not begin.
    """
    spread = ["-n", str(workers)] if workers > 1 and find_spec("xdist") is not None else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        # Warnings are shown: the packages of the interpreter may be of other versions than those of the project.
        quiet = ["-q", "-W", "default", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-m", "gpu", *quiet, *spread]
        ended = subprocess.run([*command, f"--junitxml={report}", *map(str, paths)], cwd=ROOT, check=False)
        # 0: all passed, 1: some failed, 5: none was collected.
        if ended.returncode not in {0, 1, 5} or not report.exists():
            raise RuntimeError(f"pytest ended with {ended.returncode}")
        return counted(report)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tests, print what became of them, write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--graphs", action="store_true", help="the tests of CUDA graphs, and these alone")
    parser.add_argument("--workers", type=int, default=min(16, os.cpu_count() or 1), help="processes of pytest")
    asked = parser.parse_args(argv)
    with polite():
        device = resolve_device(asked.device)
        found = run(files(graphs=asked.graphs), asked.workers)
    table_of("tests marked gpu", ("", "tests"), [(kind, str(found[kind])) for kind in KINDS])
    for name, why in found["failures"].items():
        print(f"FAILED {name}\n{why}")
    write_report(asked.json, device, found)


if __name__ == "__main__":
    main()
