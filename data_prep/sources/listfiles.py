"""What the split files of all datasets share: lines with their numbers, names that are safe, no doubles."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from data_prep.files.opening import read_file
from drcli.errors import DataError

LONGEST_FILE = 256 * 10**6  # bytes; Kinetics-700's largest list has 30 million
LONGEST_LINE = 10_000  # characters

_VIDEO = re.compile(r"[\w-]{11}", re.ASCII)
_LINE_END = re.compile(r"\r\n|\n|\r")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\u2028\u2029]")


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark; line ends as they are.

    Raises:
        DataError: it cannot be read, is not a file or longer than `LONGEST_FILE`, is not UTF-8 text, or holds
            control characters, which damaged files and binary ones have.
    """
    try:
        text = read_file(path, limit=LONGEST_FILE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error}); give the file as it was downloaded") from error
    match = _CONTROL.search(text)
    if match:
        line = len(_LINE_END.findall(text, 0, match.start())) + 1
        raise DataError(
            f"{path}:{line}: holds the control character {match[0]!r}; the file is damaged or not text, "
            "give it as it was downloaded"
        )
    return text


def numbered_lines(path: Path) -> list[tuple[str, str]]:
    """(where, text) of each line that is not blank, where being "FILE:LINE" for messages.

    Raises:
        DataError: the file cannot be read, is not UTF-8 text, or has a line longer than `LONGEST_LINE`.
    """
    lines = [
        (f"{path}:{number}", line.strip()) for number, line in enumerate(_LINE_END.split(read_text(path)), start=1)
    ]
    for where, line in lines:
        if len(line) > LONGEST_LINE:
            raise DataError(f"{where}: has {len(line):,} characters, more than {LONGEST_LINE:,}; is it another file?")
    return [(where, line) for where, line in lines if line]


def shown(text: str, longest: int = 80) -> str:
    """A piece of a file, quoted for a message and cut where it is long."""
    return repr(text if len(text) <= longest else f"{text[:longest]}...")


def check_video(name: str, where: str) -> None:
    """Refuse what is not a YouTube id.

    Args:
        name: as the file has it.
        where: "FILE:LINE", for the message.

    Raises:
        DataError: it is none.
    """
    if not _VIDEO.fullmatch(name):
        raise DataError(f"{where}: {shown(name)} is not a YouTube id of 11 characters; correct or remove the line")


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
        raise DataError(f"{where}: {shown(name)} is not the relative path of a clip; remove the line")
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
