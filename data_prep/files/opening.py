"""Opens the files of a download, none of them larger than a limit that the message states."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from drcli.errors import DataError

MB = 10**6


def open_file(path: Path, *, limit: int | None = None) -> BinaryIO:
    """Open a file for reading; links that lead to a file are followed.

    Pipes, devices and folders are refused: a pipe without a writer would block, /dev/zero has no end.

    Args:
        path: the file.
        limit: the largest size in bytes; None allows any.

    Raises:
        DataError: it cannot be opened, is not a file, or is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # does not wait for a pipe
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    status = os.fstat(descriptor)
    problem = _problem(status.st_mode, status.st_size, limit)
    if problem:
        os.close(descriptor)
        raise DataError(f"{path}: {problem}")
    return os.fdopen(descriptor, "rb")


def _problem(mode: int, size: int, limit: int | None) -> str:
    if not stat.S_ISREG(mode):
        return f"is {kind_of_file(mode)}, not a file; replace it by the file from the download"
    if limit is not None and size > limit:
        return f"has {size / MB:,.1f} MB, {_too_much(limit)}"
    return ""


def _too_much(limit: int) -> str:
    return f"more than the {limit / MB:,.1f} MB that such a file may have; is it another file?"


def kind_of_file(mode: int) -> str:
    """What a path is, with its article, if it is not a regular file."""
    tests = {"a folder": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((name for name, test in tests.items() if test(mode)), "a device")


def read_file(path: Path, *, limit: int) -> bytes:
    """All bytes of a file of at most `limit` bytes.

    Raises:
        DataError: it cannot be read, is not a file, or is too large.
    """
    with open_file(path, limit=limit) as stream:
        try:
            content = stream.read(limit + 1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > limit:  # files of /proc state no size
        raise DataError(f"{path}: has {_too_much(limit)}")
    return content
