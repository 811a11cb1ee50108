"""`python -m drcli`, and the console script."""

from __future__ import annotations

import os
import sys

from drcli.interrupt import EXIT_CODE, MESSAGE, leaving_at_once

SPINS = "1000"
"""How often a thread of torch's looks for work before it sleeps.

GNU's OpenMP looks for milliseconds by itself. Threads that look while others compute on the same cores stop
those: two trainings at once on two cores took 5 times as long an epoch as one alone, with this limit 4 times;
among five busy processes an epoch took 50 times as long without it. Alone on the machine the limit costs less
than runs differ. One thread a run (OMP_NUM_THREADS=1) is the best that can be done on a crowded machine.
"""


def main() -> None:
    """Run the command line; Ctrl-C ends it with exit code 130, also while it starts."""
    try:
        with leaving_at_once():
            _run()
    except KeyboardInterrupt:
        sys.stderr.write(f"{MESSAGE}\n")
        sys.exit(EXIT_CODE)


def _run() -> None:
    if "OMP_WAIT_POLICY" not in os.environ:  # who sets it decides
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    from drcli.cli import app

    app()


if __name__ == "__main__":
    main()
