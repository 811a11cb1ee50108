"""What the terminal gives and takes: the streams that drcli writes to, and Ctrl-C.

A stream may be narrow, closed or unable to hold a character. Libraries swallow or garble a KeyboardInterrupt that
comes while packages are imported, so that Ctrl-C is handled here; imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

from drcli.errors import InterruptedRunError

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160
"""Columns of a table that goes into a file or a pipe, where there is no window to fit into."""

NARROWEST = 60
"""Columns of the narrowest window that is laid out for; in a narrower one the terminal breaks the lines."""

EXIT_CODE = 130
MESSAGE = "drcli: stopped"

GRACE = 2.0
"""Seconds in which a further Ctrl-C changes nothing: what the first one began is ended in order."""

Handler = Callable[[int, FrameType | None], object]


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Return a console on standard output or standard error, at least NARROWEST columns wide; a quiet one is silent."""
    from rich.console import Console

    found = Console(stderr=stderr, quiet=quiet)
    if found.is_jupyter or quiet:
        return found
    if not found.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        return Console(stderr=stderr, width=WIDE)
    return found if found.width >= NARROWEST else Console(stderr=stderr, width=NARROWEST)


def show(renderable: Any) -> None:
    """Print a table or text on standard output, wide enough for every word: cells never vanish."""
    target = console()
    options = target.options.update(max_width=10 * WIDE)
    wanted = [target.measure(table, options=options).minimum for table in _tables(renderable)]
    target.width = max([target.width, *wanted])
    target.print(renderable, crop=False)  # lines that are not to be broken are not cut off either


def _tables(renderable: Any) -> Iterator[Any]:
    """Yield the tables of a group; lines beside them, such as a path, are never broken and need no width."""
    from rich.console import Group
    from rich.table import Table

    if isinstance(renderable, Group):
        for part in renderable.renderables:
            yield from _tables(part)
    elif isinstance(renderable, Table):
        yield renderable


def prepare_environment() -> None:
    """Make the process's streams and settings such that nothing they hold ends it.

    What standard output cannot encode is spelled out; a window of no width counts as narrow; the name of a screen
    that matplotlib would draw on does not matter, since drcli draws into files.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # closed, or something else than a file
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    columns = os.environ.get("COLUMNS", "")
    if columns and (not columns.isdigit() or int(columns[:9]) < NARROWEST):
        os.environ["COLUMNS"] = str(NARROWEST)
    os.environ.pop("MPLBACKEND", None)
    _silence_matplotlib()


def _silence_matplotlib() -> None:
    """Do not show its notices about its cache of fonts, and about characters that its font lacks."""
    import logging
    import warnings

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from", UserWarning)


def delivered(code: int) -> int:
    """Return the exit code of a command that wanted to end with `code`: 1 where its output cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        return undelivered(error)
    return code


def undelivered(error: OSError) -> int:
    """Say in one line that standard output cannot be written, drop what is left of it, and return exit code 1."""
    if error.errno != errno.EPIPE:  # a reader that closes the pipe needs no message
        text = f"drcli: standard output cannot be written ({error.strerror or error})\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode(errors="backslashreplace"))
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    return 1


def leaving_at_once() -> AbstractContextManager[None]:
    """Have Ctrl-C say "drcli: stopped" and end the process with exit code 130, whatever it is doing.

    Replaces only Python's own handler, and only in the main thread: a program that ignores or handles SIGINT decides.
    """
    _Last.time = None
    return _replaced(signal.default_int_handler, _leave)


def raising_again() -> AbstractContextManager[None]:
    """Have Ctrl-C raise KeyboardInterrupt inside `leaving_at_once`: what is begun here can be ended in order.

    While a package is being imported it still ends the process at once.
    """
    return _replaced(_leave, _raise)


@contextlib.contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into an error with a message; for the main thread.

    Raises:
        InterruptedRunError: one of them came.
    """

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(message) from None
    finally:
        signal.signal(signal.SIGTERM, previous)


def ignoring() -> None:
    """Ignore Ctrl-C from now on, where Python's own handler would raise: the process is about to end."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) in _OWN:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def interrupted() -> bool:
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
    if _is_importing(frame):
        _leave(number, frame)
    elif not _is_repeated():
        signal.default_int_handler(number, frame)


def _is_importing(frame: FrameType | None) -> bool:
    """Return whether a frame, or one that called it, belongs to Python's import of a module."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


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
