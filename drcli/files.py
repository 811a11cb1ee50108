"""Files that are either whole or not there: atomic writes, append-only logs, locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from drcli import reading
from drcli.errors import RunError, UsageError

Buffer: TypeAlias = bytes | bytearray | memoryview


def write_atomic(path: Path, *pieces: Buffer) -> None:
    """Replace a file by new contents: readers see the old file or the new one, whole.

    A link stays one, and what it leads to is replaced; a pipe or device is written to.

    Args:
        path: the file.
        pieces: its contents, one after the other.

    Raises:
        RunError: the contents could not be written; the old file, if any, is as it was.
    """
    if _is_special(path):
        _write_through(path, pieces)
        return
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({reason(error)}); what was there before is untouched") from error
    finally:
        with suppress(OSError):  # gone already, unless an error or Ctrl-C came first
            temporary.unlink()


def _is_special(path: Path) -> bool:
    try:
        return path.exists() and not path.is_file()
    except OSError:  # a name that is too long, or a folder that is closed: writing says so
        return False


def _write_through(path: Path, pieces: Sequence[Buffer]) -> None:
    try:
        with path.open("wb") as stream:
            stream.writelines(pieces)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({reason(error)})") from error


def reason(error: OSError) -> str:
    """What went wrong, with the remedy where there is one."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "no space left on the device: free some and repeat the command, it goes on where it was"
    return error.strerror or str(error)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, keys in the order given."""
    write_atomic(path, (json.dumps(reading.storable(value), indent=2) + "\n").encode())


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON object as a line.

    Raises:
        RunError: the line could not be written.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(reading.storable(value)) + "\n")
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({reason(error)})") from error


def parse_yaml(text: str) -> Any:
    """Return the plain data of YAML: `drcli.recipe.plain_yaml.parse_yaml`."""
    from drcli.recipe import plain_yaml

    return plain_yaml.parse_yaml(text)


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a run's JSON-lines file: `drcli.reading.read_json_lines`.

    Raises:
        RunError: the file cannot be read, or a line is not a JSON object.
    """
    return reading.read_json_lines(path, remedy="restore it, or start over with --fresh", error=RunError)


def make_folder(folder: Path, *, remedy: str) -> None:
    """Create a folder and check that files can be made in it.

    Raises:
        UsageError: it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UsageError(f"{folder}: not writable ({reason(error)}); {remedy}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock; the system releases it however the process ends.

    Raises:
        RunError: another process holds it.
    """
    with (folder / ".lock").open("w", encoding="ascii") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                f"{folder}: another process is training here; wait for it, or choose another --out"
            ) from error
        yield
