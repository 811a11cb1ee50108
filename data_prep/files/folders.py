"""Lists the files of a folder by their suffixes, in one place.

Suffixes are compared in lower case: cameras and Windows write `.WAV` and `.PNG`. Hidden files are left out,
above all those that macOS adds for each file of an archive (`._v_Archery_g01_c01.avi`). Links are followed;
a link that leads nowhere is left out. A pipe or device in place of a file is refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from data_prep.files.opening import kind_of_file
from drcli.errors import DataError


def list_folder(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files directly in a folder with one of the suffixes, by name; none if there is no such folder.

    Args:
        folder: the folder.
        suffixes: in lower case, with their dot.

    Raises:
        DataError: the folder cannot be read, or one of the names is not a file.
    """
    files, folders = _scan(folder, suffixes)
    for name in folders:
        if _suffix(name) in set(suffixes) - {""}:
            raise DataError(f"{folder / name}: is a folder, not a file; replace it by the file from the download")
    return [folder / name for name in files]


def find_files(root: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Every file below a folder with one of the suffixes, in a fixed order; linked folders are followed.

    Args:
        root: the folder; without it, there are no files.
        suffixes: in lower case, with their dot.

    Raises:
        DataError: a folder cannot be read, or one of the names is not a file.
    """
    seen: set[str] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            continue
        seen.add(real)
        files, folders = _scan(folder, suffixes)
        yield from (folder / name for name in files)
        waiting += [folder / name for name in reversed(folders)]


def find_named(folder: Path, *names: str) -> Path | None:
    """The first file directly in a folder that has one of some names, in whatever case; None if there is none."""
    suffixes = {_suffix(name) for name in names}
    paths = list_folder(folder, suffixes)
    there = {path.name.lower(): path for path in paths} | {path.name: path for path in paths}
    return next((there[key] for name in names for key in (name, name.lower()) if key in there), None)


def _scan(folder: Path, suffixes: Collection[str]) -> tuple[list[str], list[str]]:
    """Names of the wanted files and of the folders in a folder, each in order."""
    files, folders = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif _suffix(entry.name) in suffixes and _is_file(entry):
                    files.append(entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error
    return sorted(files), sorted(folders)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path for each of 300,000 names takes seconds


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file; False for a link that leads nowhere.

    Raises:
        DataError: it is a pipe, a socket or a device.
    """
    if entry.is_file():
        return True
    try:
        mode = entry.stat().st_mode
    except FileNotFoundError:
        return False
    raise DataError(f"{entry.path}: is {kind_of_file(mode)}, not a file; replace it by the file from the download")
