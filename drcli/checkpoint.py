"""Checkpoints: one file, with a checksum over all of it, that holds nothing which can run.

A checkpoint is what `torch.save` writes, with a SHA-256 in the comment at the end of the zip archive.
`torch.load(path, weights_only=True)` reads it like any other. `load` verifies it first, because a flipped byte would
otherwise load silently, and unpickles nothing.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from drcli.errors import CheckpointError, RunError
from drcli.files import replacing
from drcli.reading import ContentsError, open_regular
from drcli.recipe.text import excerpt
from drcli.tensor_file import MoreThanTensorsError, read_tensors

CHECKPOINT_VERSION = 1
_MARK = b"drcli-sha256:"
_COMMENT_SIZE = len(_MARK) + 64
_NOT_OURS = "For a model that drcli did not train, save the features as .npz: `drcli diagnose FEATURES.npz`"


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain containers, atomically.

    Raises:
        RunError: the file could not be written; an older one is as it was.
    """
    with replacing(path) as stream:
        write_sealed(stream, {"checkpoint_version": CHECKPOINT_VERSION, **state})


def write_sealed(stream: IO[bytes], state: Any) -> None:
    """Write what `torch.save` writes of a state, with its digest as comment of the zip archive.

    Nothing is held in memory, and while a tensor is written or its digest computed other threads go on: one that
    feeds a GPU would otherwise stand still.
    """
    sealing = Sealing(stream)
    torch.save(state, cast("IO[bytes]", sealing))  # it needs `write` and `flush` alone
    sealing.seal()


class Sealing:
    """A stream that hands on what is written to it, and ends it with its digest.

    Args:
        stream: what is written to.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._held = b""
        self._failed: BaseException | None = None

    def write(self, data: memoryview) -> int:
        """Hand on all but the last two bytes so far: those of an archive are the length of its comment.

        It is called through C++, where no exception may pass: `seal` raises what was raised here.
        """
        try:
            if self._failed is None:
                self._hand_on(data)
        except BaseException as error:  # noqa: BLE001 - Ctrl-C, too
            self._failed = error.with_traceback(None)  # whose frames hold memory that is gone afterwards
        return len(data)

    def _hand_on(self, data: memoryview) -> None:
        last = self._held + bytes(data[-2:])
        for piece in (self._held, data[:-2]) if len(data) > 1 else (last[:-2],):
            self._digest.update(piece)
            self._stream.write(piece)
        self._held = last[-2:]

    def flush(self) -> None:
        """Nothing: it is flushed when it is whole."""

    def seal(self) -> None:
        """Write the length of the comment, and the comment.

        Raises:
            OSError: something could not be written.
        """
        if self._failed is not None:
            raise self._failed
        length = struct.pack("<H", _COMMENT_SIZE)
        self._digest.update(length)
        self._stream.write(length + _MARK + self._digest.hexdigest().encode())


class Saver:
    """Saves checkpoints in the order requested, in a separate thread, while training continues.

    A run that is killed loses what was not yet written: at most the two last saves. After one that failed
    nothing more is written: a `last.pt` must not speak of a `checkpoint.pt` that is not there.

    Args:
        check: called before each write; raises a RunError where nothing may be written, such as `files.Lock.check`.
    """

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: deque[Future[None]] = deque()
        self._failed: RunError | None = None
        self._stream: torch.cuda.Stream | None = None

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """Copy a state and have it saved.

        Raises:
            RunError: an earlier one could not be written.
        """
        self._wait(leave=1)
        kept = copied(state)
        self._pending.append(self._thread.submit(self._write, path, kept, _mark()))

    def flush(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            RunError: something could not be written.
        """
        self._wait(leave=0)

    def _wait(self, leave: int) -> None:
        while len(self._pending) > (0 if self._failed else leave):
            self._pending.popleft().result()
        if self._failed is not None:
            raise self._failed

    def _write(self, path: Path, state: Mapping[str, Any], made: torch.cuda.Event | None) -> None:
        if self._failed is None:
            try:
                self._check()
                save(path, state if made is None else self._fetched(state, made))
            except RunError as error:
                self._failed = error

    def _fetched(self, state: Mapping[str, Any], made: torch.cuda.Event) -> Any:
        """Return a state with its tensors on the CPU, without waiting for what the GPU was given since `made`."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        self._stream.wait_event(made)
        with torch.cuda.stream(self._stream):
            return _each_tensor(state, Tensor.cpu)


def copied(state: Any) -> Any:
    """Return plain containers with copies of their tensors, on the same device: a GPU copies while it works."""
    return _each_tensor(state, lambda tensor: tensor.detach().clone())


def _mark() -> torch.cuda.Event | None:
    """What comes after all that the GPU was given so far; None where none is used."""
    if not torch.cuda.is_initialized():
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _each_tensor(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each_tensor(item, change) for item in value)
    return value


def load(path: Path) -> dict[str, Any]:
    """Read and verify a checkpoint, tensors on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or not written by drcli.
    """
    try:
        with open_regular(path) as stream:
            _verify(path, stream)
            state = read_tensors(stream)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror or error}); give the checkpoint.pt or last.pt of a run directory"
        ) from error
    except MoreThanTensorsError as error:
        raise CheckpointError(f"{path}: refused, it holds more than tensors and plain values") from error
    except ContentsError as error:
        raise CheckpointError(
            f"{path}: damaged ({error}); use another checkpoint of the run, or train again"
        ) from error
    if not isinstance(state, dict) or "checkpoint_version" not in state:
        raise CheckpointError(f"{path}: not a checkpoint of drcli")
    version = state["checkpoint_version"]
    if type(version) is not int or version != CHECKPOINT_VERSION:
        found = version if isinstance(version, int | str | float | None) else type(version).__name__
        raise CheckpointError(
            f"{path}: checkpoint_version is {excerpt(found)}, this drcli reads {CHECKPOINT_VERSION}; "
            "train again, or use the drcli that wrote it"
        )
    return state


def _verify(path: Path, stream: BufferedReader) -> None:
    """Compare the file with its checksum, and leave the stream at its beginning."""
    head = stream.read(4)
    if not head:
        raise CheckpointError(f"{path}: the file is empty; use another checkpoint of the run, or train again")
    if head != b"PK\x03\x04":
        raise CheckpointError(
            f"{path}: not a checkpoint of drcli; give a checkpoint.pt or last.pt of a run directory. {_NOT_OURS}"
        )
    body = max(0, stream.seek(0, os.SEEK_END) - _COMMENT_SIZE)
    stream.seek(body)
    comment = stream.read()
    if not comment.startswith(_MARK):
        raise CheckpointError(
            f"{path}: truncated, or not written by drcli (its checksum is missing); "
            f"use another checkpoint of the run, or train again. {_NOT_OURS}"
        )
    stream.seek(0)
    if _sha256(stream, body).encode() != comment[len(_MARK) :]:
        raise CheckpointError(f"{path}: damaged (its checksum does not match); use another checkpoint of the run")
    stream.seek(0)


def _sha256(stream: BufferedReader, size: int) -> str:
    """Digest of the next bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (piece := stream.read(min(size, 2**20))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()
