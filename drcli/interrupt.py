"""Ctrl-C while packages are imported: libraries swallow or garble a KeyboardInterrupt that comes then."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType

EXIT_CODE = 130
MESSAGE = "drcli: stopped"

Handler = Callable[[int, FrameType | None], object]


def leaving_at_once() -> AbstractContextManager[None]:
    """Have Ctrl-C say "drcli: stopped" and end the process with exit code 130, whatever it is doing.

    Replaces only Python's own handler, and only in the main thread: who ignores SIGINT, or handles it, decides.
    """
    return _replaced(signal.default_int_handler, _leave)


def raising_again() -> AbstractContextManager[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside `leaving_at_once`: what is begun here can be ended in order."""
    return _replaced(_leave, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
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
