"""Git LFS pointers: the short text in place of a file that was not fetched."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drcli.errors import DataError

LONGEST = 1024  # bytes; the specification keeps pointers below
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\r?\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\r?\nsize (\d{1,18})\s*"
)


@dataclass(frozen=True)
class Pointer:
    """What a pointer says of the file it stands for.

    Attributes:
        oid: SHA-256 of the content, in hexadecimal.
        size: bytes of the content.
    """

    oid: str
    size: int


def parse_pointer(content: bytes) -> Pointer | None:
    """The pointer that a file's content is; None if it is something else."""
    match = _POINTER.fullmatch(content)
    return None if match is None else Pointer(match[1].decode(), int(match[2]))


def read_pointer(path: Path) -> Pointer | None:
    """The pointer in a file; None if the path is something else. Long files are not read, nor are pipes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LONGEST:
        return None
    return parse_pointer(path.read_bytes())


def refuse_pointers(source: Path, paths: Iterable[Path], folders: Iterable[str]) -> None:
    """Refuse a download in which files are still pointers.

    Args:
        source: the clone, named in the message.
        paths: files to look at.
        folders: the folders of `source` to fetch, for the command in the message.

    Raises:
        DataError: at least one file is a pointer; the message counts them and gives the command.
    """
    missing = [(path, pointer) for path in paths if (pointer := read_pointer(path)) is not None]
    if missing:
        size = sum(pointer.size for _, pointer in missing) / 1e6
        wanted = ",".join(f"{folder}/*" for folder in folders)
        raise DataError(
            f"{missing[0][0]}: a Git LFS pointer, not the file; {len(missing)} files ({size:,.1f} MB) were not "
            f"fetched. Run `git lfs install && git -C {source} lfs pull --include '{wanted}'`; a zip download "
            "holds pointers only and cannot be completed, clone the repository instead"
        )
