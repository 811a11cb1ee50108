"""drcli as a user runs it: in this process through Typer's runner, or in a process of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from typer.testing import CliRunner

from drcli.cli import app

ROOT = Path(__file__).resolve().parents[2]

# drcli with the dataset "toy" in its registry, as somebody's plug-in would put it there.
# A shell that runs tests in the background has them ignore SIGINT, which a child would inherit.
PROGRAM = """
import signal

import torch
from drcli.__main__ import main
from support.names import toy_names

signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)
with toy_names():
    main()
"""


@dataclass(frozen=True)
class Outcome:
    """What a command wrote."""

    stdout: str
    stderr: str


class Drcli(Protocol):
    """Runs drcli, which must end with `code`."""

    def __call__(self, *args: object, code: int = 0) -> Outcome: ...


class Refused(Protocol):
    """Runs drcli, which must refuse with `code`, and returns its message."""

    def __call__(self, *args: object, code: int) -> str: ...


class RecipeFile(Protocol):
    """Writes a recipe over "toy"; keyword arguments replace its blocks."""

    def __call__(self, modalities: tuple[str, ...] = ..., **blocks: Any) -> Path: ...


class Process(Protocol):
    """Starts drcli in a process of its own."""

    def __call__(self, *args: object, **options: Any) -> subprocess.Popen[str]: ...


def invoke(*args: object, code: int = 0) -> Outcome:
    """Run drcli in this process; an exception that escapes it is raised here."""
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return Outcome(result.stdout, result.stderr)


def start(*args: object, program: str = PROGRAM, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a Python program, drcli with "toy" by default, in a process of its own."""
    places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        cwd=cwd,
    )


def tree(folder: Path) -> dict[str, str]:
    """Digests of all files of a folder, by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
