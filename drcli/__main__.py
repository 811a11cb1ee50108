"""`python -m drcli`, and the console script."""

from __future__ import annotations

import os
import sys

from drcli.terminal import EXIT_CODE, MESSAGE, ignoring, leaving_at_once

SPINS = "1000"
"""How often a thread of torch's looks for work before it sleeps.

GNU's OpenMP looks for milliseconds by itself. Threads that look while others compute on the same cores stop
those: two trainings at once on two cores took 5 times as long an epoch as one alone, with this limit 4 times;
among five busy processes an epoch took 50 times as long without it. Alone on the machine the limit costs less
than runs differ. One thread per run (OMP_NUM_THREADS=1) is the best that can be done on a crowded machine.
"""


def main() -> None:
    """Run the command line; Ctrl-C ends it with exit code 130, also while it starts."""
    sys.exit(_code())


def _code() -> int:
    """Run the command line and return its exit code; later Ctrl-C are ignored while the interpreter ends."""
    from drcli import terminal

    try:
        with leaving_at_once():
            terminal.prepare_environment()
            _run()
    except KeyboardInterrupt:
        sys.stderr.write(f"{MESSAGE}\n")
        return EXIT_CODE
    except SystemExit as ended:
        return terminal.delivered(ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1)
    except OSError as error:
        if error.filename is not None:
            raise
        return terminal.undelivered(error)
    finally:
        ignoring()
    return terminal.delivered(0)


def _run() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # a setting of the user's decides
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    from drcli.cli import app

    app()


if __name__ == "__main__":
    main()
