"""What the split files of all datasets share: lines with their numbers, names that are safe, no doubles."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from drcli.errors import DataError
from drcli.reading import read_bytes


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; line ends as they are.

    Raises:
        DataError: it cannot be read, or is no UTF-8 text.
    """
    try:
        return read_bytes(path, remedy="give the file as it was downloaded", limit=10**9).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}); give the file as it was downloaded") from error


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """(where, text) of each line that is not blank, where being "FILE:LINE" for messages.

    Raises:
        DataError: the file cannot be read, or is no UTF-8 text.
    """
    lines = enumerate(read_text(path).splitlines(), start=1)
    return [(f"{path}:{number}", line.strip()) for number, line in lines if line.strip()]


def safe_parts(name: str, where: str) -> tuple[str, ...]:
    """The parts of a relative path that stays inside its folder.

    Args:
        name: as the file has it, with / between folders.
        where: "FILE:LINE", for the message.

    Raises:
        DataError: the name is absolute, climbs out with "..", is empty, or holds control characters.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0].startswith("/") or ".." in parts or "\\" in name or not name.isprintable():
        raise DataError(f"{where}: {name!r} is not the relative path of a clip; remove the line")
    return parts


def refuse_doubles(entries: Iterable[tuple[str, str]]) -> None:
    """Check that no clip is listed twice, in one file or in two.

    Args:
        entries: name of a clip, and where it is listed.

    Raises:
        DataError: a clip is listed twice; both places are named.
    """
    first: dict[str, str] = {}
    for name, where in entries:
        if name in first:
            raise DataError(f"{where}: clip {name} is listed before, at {first[name]}; keep one of the lines")
        first[name] = where


def find_files(root: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Every file below a folder with one of the suffixes, in a fixed order; linked folders are followed.

    Args:
        root: the folder.
        suffixes: in lower case, with their dot.
    """
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        real = str(Path(folder).resolve())
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(names):
            # Names like "._v_Archery_g01_c01.avi" are what archives from macOS leave behind.
            if not name.startswith("._") and os.path.splitext(name)[1].lower() in suffixes:  # noqa: PTH122 - 300,000 names
                yield Path(folder, name)
