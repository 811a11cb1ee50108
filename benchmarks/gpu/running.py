"""Does the steps within a budget, one process each, and keeps what each found as JSON; none is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.interpreter import ROOT, commit, environment, source
from benchmarks.gpu.steps import SCRATCH, Length, Step

DONE, FAILED, LEFT_OUT = "done", "failed", "left out"
KEPT = 6000
"""Characters of a step's output that are kept."""

GRACE = 1.5
"""A step may take so many times what it is expected to, if the budget has it."""

END = 5.0
"""Seconds that are kept for the end."""


@dataclass(frozen=True)
class Place:
    """Where and on what the steps are done.

    Attributes:
        out: folder of the results.
        site: folder of the packages that the interpreter lacks.
        scratch: folder of made-up arrays.
        device: cuda or cpu.
        tiny: whether the steps only show that the chain holds.
    """

    out: Path
    site: Path
    scratch: Path
    device: str
    tiny: bool


@dataclass(frozen=True)
class Result:
    """What became of a step; its file, as JSON.

    Attributes:
        step: its name.
        status: done, failed or left out.
        source: digest of the code that was measured.
        commit: of the checkout, where there is one.
        device: cuda or cpu.
        tiny: whether it only showed that the chain holds.
        seconds: that it took.
        shortened: what was shortened to keep the budget, or the empty string.
        message: why it failed or was left out, or the empty string.
        command: what was called, below the checkout; SCRATCH stands for the folder of made-up arrays.
        output: the end of what it said.
        found: what the benchmark wrote; empty where it did not.
    """

    step: str
    status: str
    source: str
    commit: str | None
    device: str
    tiny: bool
    seconds: float = 0.0
    shortened: str = ""
    message: str = ""
    command: tuple[str, ...] = ()
    output: str = ""
    found: Mapping[str, Any] | None = None


def path_of(out: Path, step: str) -> Path:
    """Return the file of a step's result."""
    return out / f"{step}.json"


def stored(path: Path) -> dict[str, Any]:
    """Return a result as it lies on the disk; empty where there is none, or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def store(out: Path, result: Result) -> None:
    """Write a result, whole or not at all."""
    path = path_of(out, result.step)
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    beside.replace(path)


class Session:
    """Some steps, done one after another until the budget is spent.

    Args:
        place: where and on what.
        budget: seconds for all of them.
    """

    def __init__(self, place: Place, budget: float) -> None:
        self.place = place
        self.budget = budget
        self.began = time.monotonic()
        self.source, self.commit = source(), commit()

    @property
    def left(self) -> float:
        """Seconds of the budget that are left for steps."""
        return self.budget - (time.monotonic() - self.began) - END

    def is_done(self, step: Step) -> bool:
        """Whether the step's result is there: of the same code, on the same kind of device, at the same size."""
        found = stored(path_of(self.place.out, step.name))
        same = {"status": DONE, "source": self.source, "device": self.place.device, "tiny": self.place.tiny}
        return all(found.get(key) == value for key, value in same.items())

    def do(self, steps: Sequence[Step]) -> int:
        """Do the steps that are not done, and return how many of all are not."""
        pending = []
        for step in steps:
            if self.is_done(step):
                say(f"{step.name}: is there")
            else:
                pending.append(step)
        undone = 0
        for number, step in enumerate(pending):
            result = self._one(step, pending[number + 1 :])
            store(self.place.out, result)
            undone += result.status != DONE
            more = [text for text in (result.shortened, result.message) if text]
            say(f"{step.name}: {result.status}, {result.seconds:.0f} s" + "".join(f"; {text}" for text in more))
        return undone

    def _one(self, step: Step, later: Sequence[Step]) -> Result:
        length = self._length(step, later)
        if length is None:
            needed = step.lengths[-1].seconds
            return self._result(step, LEFT_OUT, message=f"{self.left:.0f} s were left, {needed:.0f} are needed")
        return self._run(step, length)

    def _length(self, step: Step, later: Sequence[Step]) -> Length | None:
        """Return the fullest length that leaves the later steps their shortest, else the shortest if there is time."""
        if self.place.tiny:
            return Length(self.left)
        reserved = sum(other.lengths[-1].seconds for other in later)
        for length in step.lengths:
            if length.seconds <= self.left - reserved:
                return length
        return step.lengths[-1] if step.lengths[-1].seconds <= self.left else None

    def _run(self, step: Step, length: Length) -> Result:
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "found.json"
            command = self._command(step, length)
            exact = [option.replace(SCRATCH, str(self.place.scratch)) for option in command]
            limit = max(1.0, min(self.left, GRACE * length.seconds))
            say(f"{step.name}: {' '.join(command)} (at most {limit:.0f} s)")
            started = time.monotonic()
            code, output = called([sys.executable, *exact, "--json", str(written)], self._environment(), limit)
            seconds = time.monotonic() - started
            found = stored(written)
        message = ended(code, limit, output) if code != 0 or not found else ""
        return self._result(
            step,
            FAILED if message else DONE,
            seconds=seconds,
            shortened=length.said,
            message=message,
            command=tuple(command),
            output=output[-KEPT:],
            found=found,
        )

    def _command(self, step: Step, length: Length) -> list[str]:
        options = step.tiny if self.place.tiny else (*step.options, *length.options)
        arrays = ("--arrays", SCRATCH, "--scratch", SCRATCH) if step.arrays else ()
        return [f"benchmarks/{step.script}", "--device", self.place.device, *arrays, *options]

    def _environment(self) -> dict[str, str]:
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return environment(self.place.site) | (one_thread if self.place.tiny else {})

    def _result(self, step: Step, status: str, **more: Any) -> Result:
        place = self.place
        return Result(step.name, status, self.source, self.commit, place.device, place.tiny, **more)


def called(command: Sequence[str], variables: Mapping[str, str], limit: float) -> tuple[int | None, str]:
    """Call a command, and end it with all that it started after so many seconds; exit code (None then) and output."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(variables), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end(process)
        output.seek(0)
        return code, output.read()


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, if any of them is still there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def ended(code: int | None, limit: float, output: str) -> str:
    """Return why a step failed, in a line."""
    if code is None:
        return f"was ended after {limit:.0f} s"
    last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "it said nothing")
    return f"ended with exit code {code}: {last[:300]}"


def say(line: str) -> None:
    """Tell how far it is."""
    print(f"gpu: {line}", flush=True)
