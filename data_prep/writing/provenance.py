"""What arrays were made from and with: a digest of the source, versions of the decoders."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from data_prep.media.container import extra
from drcli.data.format import DECODING, file_sha256
from drcli.errors import DataError


def fingerprint(root: Path, files: Iterable[Path], annotations: Iterable[Path] = ()) -> str:
    """Digest of a download: names and sizes of the media, content of the annotations.

    The content of tens of gigabytes of media is not read for it: a clip that was replaced by another
    of the same name and the same number of bytes goes unnoticed. Times of change do not count, since
    copying a download changes them.

    Args:
        root: folder that names are relative to.
        files: media below `root`, in any order.
        annotations: lists and tables, wherever they are; they count by name and content.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for name, path in sorted((str(path.relative_to(root)), path) for path in files):
        digest.update(f"{name!r} {_size(path)}\n".encode())
    for path in sorted(annotations, key=lambda path: (path.name, str(path))):
        digest.update(f"{path.name!r} {content_digest(path)}\n".encode())
    return digest.hexdigest()


def decoders(*packages: str) -> dict[str, str]:
    """Versions of our decoding, of PyAV, of the FFmpeg libraries in it, and of further installed packages, by name."""
    av = extra("av")
    libraries = {name: ".".join(map(str, av.library_versions[name])) for name in ("libavcodec", "libswscale")}
    ours = {"decoding": str(DECODING), "av": av.__version__}
    return {**ours, **libraries, **{package: version(package) for package in packages}}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def content_digest(path: Path) -> str:
    """SHA-256 of a file that a preparation reads.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
