"""What a dataset's preparation must offer, and `run`, the one way to start it.

A dataset is written into a sibling folder and renamed into place when it is complete: whatever
happens, the folder the user named holds a whole prepared dataset or none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from data_prep.writing.resume import remove_published, resumable_folder
from drcli.data.format import INFO_FILE, SPLITS, DatasetInfo, differences, read_info, verify_files
from drcli.errors import DataError, DrcliError, RunError, UsageError
from drcli.files import sync
from drcli.names import DATASETS


def ignore(*_: object) -> None:
    """Take a progress report or a warning and do nothing."""


@dataclass(frozen=True)
class Job:
    """One preparation.

    Attributes:
        source: folder of the official download; None for an embedded dataset.
        out: an existing empty folder to fill.
        fingerprint: digest of the source, as `Preparer.fingerprint` gave it.
        workers: how many processes may decode at a time.
        limit: at most so many samples over all splits; None takes everything.
        progress: called with (stage, done, total).
        warn: called with one line that the user should see.
        note: called with one line of what is going to happen.
        max_bad: share of the clips that may be skipped, in [0, 1].
        scratch: a folder that survives a kill and is there again when the command is repeated; None
            unless the preparer is `resumable`.
    """

    source: Path | None
    out: Path
    fingerprint: str = ""
    workers: int = 1
    limit: int | None = None
    progress: Callable[[str, int, int], None] = ignore
    warn: Callable[[str], None] = ignore
    note: Callable[[str], None] = ignore
    max_bad: float = 0.01
    scratch: Path | None = None


class Preparer(ABC):
    """From a download to a prepared dataset.

    Attributes:
        name: the dataset's name in the registry.
        needs_source: whether there is a download to read.
        waveform: modality whose sound takes the noise of a recipe's `corrupt`, by the settings
            `waveform_snr_db` and `waveform_noise_splits`; None where there is none.
        resumable: whether `prepare` keeps in `Job.scratch` what it needs to go on after a kill.
    """

    name: ClassVar[str]
    needs_source: ClassVar[bool]
    resumable: ClassVar[bool] = False
    waveform: ClassVar[str | None] = None

    class Settings(BaseModel, extra="forbid", frozen=True):
        """The recipe's `dataset.prepare` block."""

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def fingerprint(self, source: Path | None, /) -> str:
        """Digest of everything that is read: equal digests and settings give equal datasets.

        Raises:
            DataError: files are missing from the source.
        """

    @abstractmethod
    def prepare(self, job: Job) -> DatasetInfo:
        """Fill `job.out` by means of a `DatasetWriter`.

        Raises:
            DataError: the source is not as expected; the message names the file.
        """


def run(  # noqa: PLR0913 - one keyword for each option of the command line
    name: str,
    settings: BaseModel,
    *,
    source: Path | None,
    out: Path,
    workers: int = 1,
    limit: int | None = None,
    fresh: bool = False,
    max_bad: float = 0.01,
    progress: Callable[[str, int, int], None] = ignore,
    warn: Callable[[str], None] = ignore,
    note: Callable[[str], None] = ignore,
) -> DatasetInfo:
    """Prepare a dataset into `out`, or return the one that is there if it is the one asked for.

    Args:
        name: a name of `DATASETS`.
        settings: an instance of that dataset's `Settings`.
        source: folder of the download; None for an embedded dataset.
        out: folder of the prepared dataset; appears when it is complete.
        workers: how many processes may decode at a time.
        limit: at most so many samples over all splits, stratified by class.
        fresh: replace a dataset that is there.
        max_bad: share of the clips that may be skipped, in [0, 1].
        progress: called with (stage, done, total).
        warn: called with one line that the user should see.
        note: called with one line of what is going to happen.

    Raises:
        UsageError: no source given, `out` not writable, or something else stands there.
        DataError: the source is missing or damaged; `out` holds another dataset, or a damaged one.
        RunError: the disk is full.
    """
    preparer: Preparer = DATASETS.load(name)(settings)
    _check_arguments(preparer, source, limit)
    out = out.resolve()  # a link stays, the folder behind it is replaced
    fingerprint = preparer.fingerprint(source)
    asked = _identity(name, settings.model_dump(mode="json"), {"fingerprint": fingerprint, "limit": limit})
    with _disk_errors(out):
        if not fresh and _is_occupied(out):
            info = _existing(out, asked)
            remove_published(out)
            return info
        _is_occupied(out)
        with resumable_folder(out, asked, warn) if preparer.resumable else _partial_folder(out) as (partial, scratch):
            job = Job(source, partial, fingerprint, workers, limit, progress, warn, note, max_bad, scratch)
            info = preparer.prepare(job)
            return info if _publish(partial, out, fresh=fresh) else _existing(out, asked)


def _check_arguments(preparer: Preparer, source: Path | None, limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}; it must be at least 1")
    if source is None and preparer.needs_source:
        raise UsageError(f"dataset {preparer.name!r} is made from a download: name its folder with --source DIR")
    if source is not None and not preparer.needs_source:
        raise UsageError(f"dataset {preparer.name!r} needs no download: leave out --source {source}")
    if source is not None and not source.is_dir():
        raise DataError(f"{source}: no such folder; --source must name the folder of the download")


def _identity(name: str, settings: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes two prepared datasets the same, under the names a user knows."""
    digest = str(source.get("fingerprint"))[:12]
    return {"dataset": name, **settings, "--limit": source.get("limit"), "contents of --source": digest}


def _is_occupied(out: Path) -> bool:
    """Whether a dataset stands at `out`.

    Raises:
        UsageError: something else stands there, which is never overwritten.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise UsageError(f"{out}: is a file; --out must name a folder")
    names = {path.name for path in out.iterdir()}
    # Without dataset.json, folders called train and val are somebody's own data.
    stray = sorted(names - {INFO_FILE, *SPLITS} if INFO_FILE in names else names)
    if stray:
        raise UsageError(f"{out}: holds {stray[0]!r}, which is no part of a prepared dataset; choose another --out")
    return bool(names)


def _existing(out: Path, asked: Mapping[str, Any]) -> DatasetInfo:
    """The dataset at `out`, if it is whole and the one asked for."""
    info = read_info(out)
    changed = differences(_identity(info.name, info.settings, info.source), asked)
    if changed:
        raise DataError(
            f"{out}: another prepared dataset is there ({'; '.join(changed)}); "
            "choose another --out (and dataset.root), or replace it with --fresh"
        )
    verify_files(out, info)
    return info


@contextmanager
def _partial_folder(out: Path) -> Iterator[tuple[Path, Path | None]]:
    """A new folder beside `out`, locked while it is in use and gone afterwards."""
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


def _publish(partial: Path, out: Path, *, fresh: bool) -> bool:
    """Rename the complete folder into place; False if another process was faster.

    With `fresh`, the dataset that was there is removed last.
    """
    old = partial.with_name(f"{partial.name}-old")
    if _is_occupied(out):
        if not fresh:
            return False
        out.rename(old)
    partial.rename(out)
    sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)
    return True


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
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
