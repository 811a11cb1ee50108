"""`make fuzz`: many inputs through every reader, each module in a child process, with limits on time and memory.

Usage: python -m fuzz.run [INPUTS] [MODULE...], with tests/ on the path. Prints what fell, with the file of the input,
and one line: inputs, tracebacks, hangs, crashes, silent acceptances.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

HERE = Path(__file__).parent
SECONDS = 30
"""Of one input; generating it included."""

STARTING = 300
"""Seconds until a process is done with its first input: readers import what they need when they need it."""

MEMORY = 4 * 2**30
"""Bytes of address space beyond what the process has once everything is imported."""

FELL = ("traceback", "hang", "crash", "silent")


def modules() -> list[str]:
    """Return the names of the modules that have inputs and a check."""
    names = sorted(path.stem for path in HERE.glob("*.py"))
    return [name for name in names if "\ndef inputs()" in (HERE / f"{name}.py").read_text(encoding="utf-8")]


def outcome(module: Any, data: bytes, folder: Path) -> dict[str, str]:
    """Return what became of one input: accepted, refused, or how it fell."""
    from fuzz.mutation import SilentAcceptanceError

    try:
        return {"kind": module.check(data, folder)}
    except SilentAcceptanceError as error:
        return {"kind": "silent", "what": str(error)}
    except BaseException as error:  # noqa: BLE001 - whatever escapes a reader is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        if isinstance(error, AssertionError) and Path(place.filename).parent == HERE:  # a check's own
            return {"kind": "silent", "what": _short(f"{error} ({Path(place.filename).name}:{place.lineno})")}
        what = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
        return {"kind": "traceback", "what": _short(what)}


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


def work(name: str, count: int, number: int, log: Path) -> None:
    """Put inputs through one module, in this process, and write down what becomes of each."""
    module = importlib.import_module(f"fuzz.{name}")
    strategy = module.inputs()
    with tempfile.TemporaryDirectory() as folder, log.open("a", encoding="utf-8") as out:
        _limit_memory()

        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def one(data: bytes) -> None:
            log.with_suffix(".input").write_bytes(data)
            found = outcome(module, data, Path(folder))
            if found["kind"] in FELL:
                kept = log.with_suffix(f".{time.monotonic_ns()}.input")
                kept.write_bytes(data)
                found["input"] = str(kept)
            out.write(json.dumps(found) + "\n")
            out.flush()

        one()


def _limit_memory() -> None:
    pages = (
        int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) if Path("/proc/self/statm").exists() else 0
    )
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def watched(name: str, count: int, folder: Path) -> list[dict[str, str]]:
    """Put inputs through one module in child processes; one that hangs or crashes costs one input."""
    log, attempt = folder / f"{name}.log", 0
    found: list[dict[str, str]] = []
    log.touch()
    while len(found) < count and attempt < 20:
        attempt += 1
        before = len(found)
        ended = _child(name, count - len(found), attempt, log)
        found = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if ended is None:
            if len(found) < count and len(found) == before:  # the strategy has no more
                break
            continue
        kept = log.with_suffix(f".{attempt}.{ended}")
        if not log.with_suffix(".input").exists():
            raise SystemExit(f"{name}: ended before its first input; see {log.with_suffix('.stderr')}")
        log.with_suffix(".input").rename(kept)
        with log.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"kind": ended, "input": str(kept)}) + "\n")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def _child(name: str, count: int, attempt: int, log: Path) -> str | None:
    """Run one child; "hang" or "crash" where it did not end by itself."""
    command = [sys.executable, "-m", "fuzz.run", "--work", name, str(count), str(attempt), str(log)]
    places = os.pathsep.join([str(HERE.parent), str(HERE.parents[1])])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    with (
        log.with_suffix(".stderr").open("ab") as errors,  # decoders say there what they think of damaged pictures
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=errors) as child,
    ):
        size, since, first = -1, time.monotonic(), log.stat().st_size
        while child.poll() is None:
            time.sleep(0.2)
            now = log.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > (SECONDS if now > first else STARTING):
                child.kill()
                child.wait()
                return "hang"
    return None if child.returncode == 0 else "crash"


def main(arguments: list[str]) -> int:
    """Run all modules, or those named, and return 1 where something fell."""
    if arguments[:1] == ["--work"]:
        work(arguments[1], int(arguments[2]), int(arguments[3]), Path(arguments[4]))
        return 0
    count = int(arguments[0]) if arguments else 10_000
    names = arguments[1:] or modules()
    folder = Path(tempfile.mkdtemp(prefix="drcli-fuzz-"))
    kinds: Counter[str] = Counter()
    for name in names:
        found = watched(name, -(-count // len(names)), folder)
        kinds.update(entry["kind"] for entry in found)
        for entry in (entry for entry in found if entry["kind"] in FELL):
            sys.stdout.write(" ".join((name, entry["kind"], entry.get("what", ""), entry.get("input", ""))) + "\n")
    sys.stdout.write(
        f"{kinds.total()} inputs, {kinds['traceback']} tracebacks, {kinds['hang']} hangs, {kinds['crash']} crashes, "
        f"{kinds['silent']} silent acceptances ({kinds['accepted']} accepted, {kinds['refused']} refused)\n"
    )
    return int(any(kinds[kind] for kind in FELL))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
