"""Ctrl-C while packages are imported: libraries swallow or garble a KeyboardInterrupt that comes then."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import ClassVar

EXIT_CODE = 130
MESSAGE = "drcli: stopped"

GRACE = 2.0
"""Seconds in which a further Ctrl-C changes nothing: what the first one began is ended in order."""

Handler = Callable[[int, FrameType | None], object]


def leaving_at_once() -> AbstractContextManager[None]:
    """Have Ctrl-C say "drcli: stopped" and end the process with exit code 130, whatever it is doing.

    Replaces only Python's own handler, and only in the main thread: a program that ignores or handles SIGINT decides.
    """
    _Last.time = None
    return _replaced(signal.default_int_handler, _leave)


def raising_again() -> AbstractContextManager[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside `leaving_at_once`: what is begun here can be ended in order."""
    return _replaced(_leave, _raise)


def ignoring() -> None:
    """Ignore Ctrl-C from now on, where Python's own handler would raise: the process is about to end."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) in _OWN:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def happened() -> bool:
    """Return whether Ctrl-C was pressed since `leaving_at_once` began."""
    return _Last.time is not None


class _Last:
    """When the last Ctrl-C came, in seconds of `time.monotonic`; None before the first."""

    time: ClassVar[float | None] = None


def _is_repeated() -> bool:
    """Note a Ctrl-C, and return whether it follows another one at once: one is enough."""
    now, before = time.monotonic(), _Last.time
    _Last.time = now
    return before is not None and now - before < GRACE


def _raise(number: int, frame: FrameType | None) -> None:
    if not _is_repeated():
        signal.default_int_handler(number, frame)


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    if _is_repeated():
        return
    with contextlib.suppress(OSError):  # standard error is closed
        os.write(2, f"{MESSAGE}\n".encode())  # not through sys.stderr, which may be writing
    os._exit(EXIT_CODE)


@contextlib.contextmanager
def _replaced(expected: Handler, handler: Handler) -> Iterator[None]:
    """Put `handler` on SIGINT where `expected` is, and put that back."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not expected:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, expected)


_OWN = (signal.default_int_handler, _raise, _leave)
