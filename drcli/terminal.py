"""The streams that drcli writes to: how wide they are, and what happens when they cannot be written to."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160
"""Columns of a table that goes into a file or a pipe, where there is no window to fit into."""

NARROWEST = 60
"""Columns of the narrowest window that is laid out for; in a narrower one the terminal breaks the lines."""


def console(*, stderr: bool = False) -> Console:
    """Return a console on standard output or standard error, at least NARROWEST columns wide."""
    from rich.console import Console

    found = Console(stderr=stderr)
    if not found.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        return Console(stderr=stderr, width=WIDE)
    return found if found.width >= NARROWEST else Console(stderr=stderr, width=NARROWEST)


def show(renderable: Any) -> None:
    """Print a table or text on standard output, wide enough for every word: cells never vanish."""
    target = console()
    wanted = target.measure(renderable, options=target.options.update(max_width=10 * WIDE)).minimum
    target.width = max(target.width, wanted)
    target.print(renderable, crop=False)  # lines that are not to be broken are not cut off either


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
