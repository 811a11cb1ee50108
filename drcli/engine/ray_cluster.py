"""Ray, for whatever runs there: the connection, what a worker takes over from the command, and how tasks are ended.

Imports no torch: the workers that prepare data need none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from drcli.errors import RunError, UsageError

RETRIES = 3
"""How often the task of a lost worker is taken up by another."""

LOOK_EVERY = 0.5
"""Seconds between two looks at what has ended."""

END_WITHIN = 10.0
"""Seconds that cancelled workers have to end."""


@dataclass(frozen=True)
class Origin:
    """What a worker takes over from the command, so that relative paths mean the same there.

    Attributes:
        folder: the working directory.
        command: the command line, for environment.json.
    """

    folder: str
    command: list[str]

    @classmethod
    def here(cls) -> Origin:
        """This process's."""
        return cls(str(Path.cwd()), sys.argv)

    def take_over(self) -> None:
        """Work in that folder, under that command line.

        Raises:
            RunError: this node has no such folder.
        """
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise RunError(
                f"{self.folder}: not on node {os.uname().nodename} ({error.strerror}); "
                "--engine ray needs the working directory on a file system that all nodes share"
            ) from error
        sys.argv[:] = self.command


def uses_ray(name: str, ray_only: Mapping[str, object]) -> bool:
    """Return whether `--engine` asks for Ray.

    Args:
        name: what is asked for.
        ray_only: the options that only Ray takes, None where one was not given.

    Raises:
        UsageError: there is no such engine, or such an option was given without Ray.
    """
    if name == "ray":
        return True
    if name != "local":
        raise UsageError(f"--engine {name}: must be local or ray")
    refuse(ray_only, "belongs to --engine ray; add that, or leave it out")
    return False


def refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse options that were given, and say why.

    Raises:
        UsageError: one was given.
    """
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name} {value}: {why}")


def import_ray() -> Any:
    """Return the package `ray`.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise UsageError("--engine ray: Ray is not installed; run pip install 'drcli[cluster]'") from error


@contextmanager
def connection(address: str | None) -> Iterator[list[Mapping[str, float]]]:
    """Connect to a cluster, or start Ray on this machine until the body ends; yields "CPU" and "GPU" of each node.

    A connection that this process has already is used, and kept.

    Args:
        address: of a running cluster; None takes that of RAY_ADDRESS, or starts Ray on this machine.

    Raises:
        UsageError: no cluster answers.
    """
    ray = import_ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, address)
    try:
        yield [node["Resources"] for node in ray.nodes() if node["Alive"]]
    finally:
        if ours:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to its makers, unasked
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # of a node that does not start in time, Ray raises this very class
        asked = "--engine ray" if address is None else f"--address {address}"
        raise UsageError(
            f"{asked}: no Ray cluster answers ({first_line(error)}); "
            "start one with ray start --head, or leave --address and RAY_ADDRESS out to use this machine alone"
        ) from error


def end_tasks(ray: Any, tasks: Sequence[Any]) -> None:
    """Cancel what still runs, and wait until its workers have let go of their folders."""
    if not tasks:
        return
    _, running = ray.wait(tasks, num_returns=len(tasks), timeout=0)
    for task in running:  # and no other: to cancel one that has just ended can bring Ray down (seen with 2.60)
        ray.cancel(task, force=True)
    ray.wait(tasks, num_returns=len(tasks), timeout=END_WITHIN)


def why_lost(ray: Any, error: BaseException) -> str:
    """Say in one line why Ray has given a task up."""
    return first_line(error.cause if isinstance(error, ray.exceptions.RayTaskError) else error)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
