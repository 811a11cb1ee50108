"""The prepared dataset's folder: what may be there already, and the rename that makes a complete one appear.

A dataset is written into a sibling folder and renamed into place when it is complete: whatever
happens, the folder the user named holds a whole prepared dataset or none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drcli.data.format import INFO_FILE, SPLITS, DatasetInfo, read_info
from drcli.data.verified import RECEIPT, verify
from drcli.errors import DataError, DrcliError, RunError, UsageError
from drcli.files import sync
from drcli.reading import differences


def identity(name: str, settings: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes two prepared datasets the same, under the names a user knows.

    Args:
        name: of the dataset.
        settings: the `dataset.prepare` block.
        source: "fingerprint" and "limit", as `DatasetInfo.source` has them.
    """
    digest = str(source.get("fingerprint"))[:12]
    return {"dataset": name, **settings, "--limit": source.get("limit"), "contents of --source": digest}


def is_occupied(out: Path) -> bool:
    """Whether a dataset is in the folder `out`.

    Raises:
        UsageError: the folder holds something else, which is never overwritten.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; --out must name a folder")
    names = {path.name for path in out.iterdir()}
    # Without dataset.json, folders called train and val are somebody's own data.
    stray = sorted(names - {INFO_FILE, RECEIPT, *SPLITS} if INFO_FILE in names else names)
    if stray:
        raise UsageError(f"{out}: holds {stray[0]!r}, which is not part of a prepared dataset; choose another --out")
    return bool(names)


def existing(out: Path, requested: Mapping[str, Any], remedy: str, defaults: Mapping[str, Any]) -> DatasetInfo:
    """The dataset at `out`, if it is whole and the requested one.

    Args:
        out: folder of the dataset.
        requested: its `identity`.
        remedy: the command that prepares it again.
        defaults: of the settings; that of one which did not exist when it was made is what was done then.

    Raises:
        DataError: it is damaged, or another one.
    """
    info = read_info(out)
    changed = differences(identity(info.name, {**defaults, **info.settings}, info.source), requested)
    if changed:
        raise DataError(
            f"{out}: holds another prepared dataset ({'; '.join(changed)}); "
            "choose another --out (and dataset.root), or replace it with --fresh"
        )
    verify(out, info, remedy)
    return info


@contextmanager
def partial_folder(out: Path) -> Iterator[tuple[Path, None]]:
    """A new folder beside `out`, locked while it is in use and gone afterwards; there is no scratch folder."""
    _remove_stale(out)
    folder = out.with_name(f"{out.name}.partial-{os.getpid()}")
    folder.mkdir(parents=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot lock a folder
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder, None
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(out: Path) -> None:
    """Remove what killed preparations left beside `out`; the kernel drops a dead process's lock."""
    pattern = re.compile(re.escape(out.name) + r"\.partial-\d+(-old)?")
    siblings = out.parent.iterdir() if out.parent.is_dir() else iter(())
    for folder in [path for path in siblings if pattern.fullmatch(path.name)]:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        except OSError:
            continue  # in use, or not lockable: leave it
        finally:
            os.close(descriptor)


def publish(partial: Path, out: Path, *, fresh: bool) -> bool:
    """Rename the complete folder into place; False if another process was faster.

    With `fresh`, the dataset that was there is removed last.
    """
    old = partial.with_name(f"{partial.name}-old")
    if is_occupied(out):
        if not fresh:
            return False
        out.rename(old)
    partial.rename(out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)
    return True


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn what the file system refuses into a message."""
    try:
        yield
    except OSError as error:
        raise _explain(out, error) from error


def _explain(out: Path, error: OSError) -> DrcliError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RunError(f"{out}: the disk is full; free some space or choose another --out, then repeat the command")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}:
        return UsageError(f"{out}: cannot be written ({error.strerror}); choose another --out")
    return RunError(f"{out}: could not be prepared ({error})")
