"""The folder in which a long preparation works, kept across kills until it is published.

There::

    <out>.partial/identity.json   what is being prepared
    <out>.partial/dataset/        the dataset, while it is incomplete
    <out>.partial/...             what the preparer needs to resume: `Job.scratch`
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drcli.errors import UsageError
from drcli.files import sync

_IDENTITY = "identity.json"
_DATASET = "dataset"


def scratch_of(out: Path) -> Path:
    """The folder beside `out` in which its preparation works."""
    return out.with_name(f"{out.name}.partial")


@contextmanager
def resumable_folder(
    out: Path, identity: Mapping[str, Any], warn: Callable[[str], None]
) -> Iterator[tuple[Path, Path]]:
    """The folder of the incomplete dataset and the scratch folder around it, locked.

    Both are removed at the end; an exception or a kill leaves them for the next run of the same
    identity, unless nothing but the two was made.

    Args:
        out: folder of the dataset that will be published.
        identity: dataset, settings and source; what was begun with another one is discarded.
        warn: called with one line if that happens.

    Raises:
        UsageError: another process works there.
    """
    scratch = scratch_of(out)
    scratch.mkdir(parents=True, exist_ok=True)
    with _locked(scratch, out):
        _begin(scratch, identity_text(identity), warn)
        (scratch / _DATASET).mkdir(exist_ok=True)
        try:
            yield scratch / _DATASET, scratch
        except BaseException:
            if {path.name for path in scratch.iterdir()} <= {_IDENTITY, _DATASET}:
                shutil.rmtree(scratch, ignore_errors=True)
            raise
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def kept_folder(folder: Path, out: Path, identity: Mapping[str, Any], warn: Callable[[str], None]) -> Iterator[Path]:
    """A folder of an identity, locked, that stays for another command.

    Args:
        folder: made here.
        out: folder of the dataset that it serves, for messages.
        identity: dataset, settings and source; what was begun with another one is discarded.
        warn: called with one line if that happens.

    Raises:
        UsageError: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, out):
        _begin(folder, identity_text(identity), warn)
        yield folder


def identity_text(identity: Mapping[str, Any]) -> str:
    """What identity.json of a folder has."""
    return json.dumps(dict(identity), indent=2, sort_keys=True) + "\n"


def remove_published(out: Path) -> None:
    """Remove what a process leaves that was killed right after it published `out`."""
    scratch = scratch_of(out)
    if (scratch / _IDENTITY).exists() and not (scratch / _DATASET).exists():
        with suppress(UsageError), _locked(scratch, out):
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _locked(scratch: Path, out: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel drops when the process dies."""
    descriptor = os.open(scratch, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot lock a folder
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    f"{out}: another drcli is preparing it; wait for it, or choose another --out"
                ) from None
        yield
    finally:
        os.close(descriptor)


def _begin(scratch: Path, identity: str, warn: Callable[[str], None]) -> None:
    """Make the folder one of this identity, emptied if it was of another."""
    path = scratch / _IDENTITY
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") == identity:
        return
    if any(scratch.iterdir()):
        warn(f"{scratch}: was begun with other settings or another source; the preparation starts from the beginning")
    for child in scratch.iterdir():
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    path.write_text(identity, encoding="utf-8")
    sync(path)
