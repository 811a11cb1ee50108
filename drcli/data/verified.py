"""Which files of a large dataset need not be read again: those that were read once and look the same since.

`verified.json`, beside `dataset.json`, has the size and the time of change of each file, and a digest of pieces of it
that are spread over its length. Where all are as they were, the digests in `dataset.json` are not computed again:
0.05 GB are read of 50 GB. A file whose content was changed in other places, and whose size and time were kept, goes
unnoticed until `drcli prepare NAME --verify` reads everything. A receipt that does not fit refuses nothing: the whole
files are read, and decide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from drcli.data.format import DatasetInfo, file_sha256
from drcli.errors import DataError, RunError
from drcli.files import write_json
from drcli.reading import open_regular, read_json_object

RECEIPT = "verified.json"
LARGE = 10**9
"""Bytes of a dataset from which on there is a receipt; smaller ones are read whole at each start."""
PIECES, PIECE = 32, 2**16
"""Number and bytes of the pieces of a file that are compared."""
MOST_PIECES = 1024
"""Number of the pieces of a whole dataset; where it has many files, fewer of each are compared, its ends at least."""

_VERSION = 1


def verify(root: Path, info: DatasetInfo, remedy: str, *, everything: bool = False) -> None:
    """Check that every file is there and is the one that was prepared.

    Args:
        root: folder of the dataset.
        info: its `dataset.json`.
        remedy: the command that prepares it again.
        everything: whether files that look the same are read too.

    Raises:
        DataError: files are missing, or differ from the digests in `dataset.json`; all are named.
    """
    before = _seen(root, info)
    if before is not None and not everything and _receipt(root, info) == before:
        return
    verify_files(root, info, remedy)
    if before is not None and before == _seen(root, info):  # nobody wrote in the meantime
        with suppress(RunError):  # a folder that cannot be written is read whole each time
            write_json(root / RECEIPT, before, follow=False)


def verify_files(root: Path, info: DatasetInfo, remedy: str) -> None:
    """Check that every file is there and is the one that was prepared.

    Args:
        root: folder of the dataset.
        info: its `dataset.json`.
        remedy: the command that prepares it again, as `prepare_command` gives it.

    Raises:
        DataError: files are missing, or differ from the digests in `dataset.json`; all are named.
    """
    with ThreadPoolExecutor() as pool:  # hashlib releases the GIL
        states = pool.map(lambda item: _state(root / item[0], item[1]), info.sha256.items())
        damage = [f"{path} {state}" for path, state in zip(info.sha256, states, strict=True) if state]
    if damage:
        raise DataError(f"{root}: {', '.join(damage)}; prepare the dataset again: {remedy}")


def _state(path: Path, digest: str) -> str:
    """What is wrong with one file; the empty string if nothing is."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait, a device would never end
            return "is not a regular file"
        return "" if file_sha256(path) == digest else "was truncated or altered since it was prepared"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _seen(root: Path, info: DatasetInfo) -> dict[str, Any] | None:
    """What a receipt of the files says as they are; None of a small dataset, or where files cannot be read."""
    try:
        states = {name: (root / name).stat() for name in info.sha256}
        if sum(state.st_size for state in states.values()) < LARGE:
            return None
        pieces = max(2, min(PIECES, MOST_PIECES // len(states)))
        with ThreadPoolExecutor() as pool:
            sampled = list(pool.map(lambda name: sampled_digest(root / name, states[name].st_size, pieces), states))
    except OSError:
        return None
    files = {
        name: [state.st_size, state.st_mtime_ns, digest]
        for (name, state), digest in zip(states.items(), sampled, strict=True)
    }
    return {"version": _VERSION, "fingerprint": info.fingerprint, "files": files}


def _receipt(root: Path, info: DatasetInfo) -> Mapping[str, Any] | None:
    """The receipt that is there; None if there is none of this dataset."""
    try:
        found = read_json_object(root / RECEIPT, remedy="remove it")
    except DataError:
        return None
    return found if found.get("fingerprint") == info.fingerprint else None


def sampled_digest(path: Path, size: int, pieces: int) -> str:
    """Digest of pieces of a file, its first and its last bytes among them.

    Args:
        path: the file.
        size: its bytes.
        pieces: how many.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    digest = hashlib.sha256()
    places = np.linspace(0, max(0, size - PIECE), pieces).astype(np.int64)
    with open_regular(path) as stream:
        for place in dict.fromkeys(places.tolist()):
            stream.seek(place)
            digest.update(stream.read(PIECE))
    return digest.hexdigest()
