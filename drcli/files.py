"""Files that are either whole or not there: atomic writes, append-only logs, locks."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any, TypeAlias

from drcli import reading
from drcli.errors import RunError, UsageError

LOCK_FILE = ".lock"
Buffer: TypeAlias = bytes | bytearray | memoryview


def write_atomic(path: Path, *pieces: Buffer, follow: bool = True) -> None:
    """Replace a file by new contents: readers see the old file or the new one, whole.

    Args:
        path: the file.
        pieces: its contents, one after the other.
        follow: for a file that the user names: a link stays one and what it leads to is replaced, and a pipe or
            device is written to. False, for the files of a folder of drcli's: whatever is there under this name is
            replaced, and nothing outside of the folder is touched.

    Raises:
        RunError: the contents could not be written; the old file, if any, is as it was.
    """
    if follow and _is_special(path):
        _write_through(path, pieces)
        return
    with replacing(Path(os.path.realpath(path)) if follow else path) as stream:
        stream.writelines(pieces)


@contextmanager
def replacing(path: Path) -> Iterator[BufferedWriter]:
    """Give a stream for the new contents of a file, which replaces the old one, whole, where the block ends well.

    Raises:
        RunError: the contents could not be written; the old file, if any, is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _opened_anew(temporary) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({reason(error)}); what was there before is untouched") from error
    finally:
        with suppress(OSError):  # gone already, unless an error or Ctrl-C came first
            temporary.unlink()


def _opened_anew(path: Path) -> BufferedWriter:
    """Open a file that is not there; what a killed process left under its name, or a link, is removed."""
    with suppress(OSError):
        path.unlink()
    return path.open("xb")


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
        return "no space left on the device: free some and repeat the command, which resumes"
    if error.errno == errno.ELOOP:
        return "it is a link: remove it, nothing is written through links"
    return error.strerror or str(error)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any], *, follow: bool = True) -> None:
    """Write a JSON object atomically, keys in the order given; `follow` as for `write_atomic`."""
    write_atomic(path, (json.dumps(reading.storable(value), indent=2) + "\n").encode(), follow=follow)


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one JSON object as a line to a regular file; one that is not there is made.

    Raises:
        RunError: the line could not be written, or the file is a link, a pipe or a device.
    """
    try:
        with os.fdopen(_open_own(path, os.O_WRONLY | os.O_APPEND), "ab") as stream:
            stream.write((json.dumps(reading.storable(value)) + "\n").encode())
    except OSError as error:
        raise RunError(f"{path}: cannot be written ({reason(error)})") from error


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


@dataclass(frozen=True)
class Lock:
    """A folder's lock, while it is held.

    Attributes:
        folder: the folder.
        descriptor: of the open file that carries the lock.
    """

    folder: Path
    descriptor: int

    def check(self) -> None:
        """Make sure that the folder is still the one that was locked, before something is written into it.

        Raises:
            RunError: the folder was deleted or begun again while this process was stopped; what is there now may be
                another process's.
        """
        if not self.is_held():
            raise RunError(
                f"{self.folder}: deleted, or begun again by another process, while this one used it; this one stops "
                "and writes nothing more"
            )

    def is_held(self) -> bool:
        """Return whether the folder's lock file is still the one that this process holds."""
        try:
            there = os.lstat(self.folder / LOCK_FILE)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self.descriptor))


@contextmanager
def locked(folder: Path) -> Iterator[Lock]:
    """Hold a folder's lock; the system releases it however the process ends. The lock file is never written to.

    Raises:
        RunError: another process holds it, or the lock file is a link, a pipe or a device or cannot be opened.
    """
    lock = Lock(folder, _lock(folder))
    try:
        lock.check()  # the file that was locked may have been deleted just before
        yield lock
    finally:
        os.close(lock.descriptor)


def _lock(folder: Path) -> int:
    path = folder / LOCK_FILE
    try:
        descriptor = _open_own(path, os.O_RDWR)
    except OSError as error:
        raise RunError(f"{path}: cannot be opened ({reason(error)})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise RunError(
                f"{folder}: another process is training here; wait for it, or choose another --out"
            ) from error
        raise RunError(f"{path}: cannot be locked ({reason(error)}); choose another --out") from error
    return descriptor


def _open_own(path: Path, flags: int) -> int:
    """Open a regular file of a folder of drcli's, made where it is missing; never a link, and without waiting.

    Raises:
        OSError: it cannot be opened, or is a link, a pipe or a device.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))
