"""The errors a user can cause: each knows its exit code and says what would be right."""

from __future__ import annotations

from typing import Any, ClassVar


class DrcliError(Exception):
    """Base of every error that is shown to the user as a message, without a traceback.

    The message names the file, the field and the remedy. `exit_code` is the exit status of the
    command line: 1 a run failed, 2 bad usage or recipe, 3 data missing or unreadable, 130 interrupted.
    """

    exit_code: ClassVar[int] = 1


class RunError(DrcliError):
    """A run failed while it worked: a non-finite loss, a full disk, a locked run directory."""


class DivergedError(RunError):
    """A number of a run is not finite: its settings do not train."""


class OutOfMemoryError(RunError):
    """A run needs more memory than the device has."""


class FailedRunsError(RunError):
    """Some of several runs failed; `result` has those that are finished. Raised by `drcli.train`, not by commands."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class StoppedError(RunError):
    """A trial of `drcli tune` is behind earlier ones, and was stopped as asked for."""


class LoggerError(RunError):
    """A logger cannot write; the run goes on without it."""


class PeerError(DrcliError):
    """One of several processes of a run failed while the others wait for it: all of them must end."""


class UsageError(DrcliError):
    """The command line asks for something that cannot be done."""

    exit_code: ClassVar[int] = 2


class RecipeError(UsageError):
    """A recipe, or an override of it, is not valid."""


class DataError(DrcliError):
    """Data is missing, damaged, or prepared with other settings than the recipe's."""

    exit_code: ClassVar[int] = 3


class DamagedError(DataError):
    """A file of a run is damaged."""


class CheckpointError(DamagedError):
    """A checkpoint is missing, damaged, or not one of drcli's."""


class InterruptedRunError(DrcliError):
    """Ctrl-C or SIGTERM stopped the command; the message says how to resume."""

    exit_code: ClassVar[int] = 130
