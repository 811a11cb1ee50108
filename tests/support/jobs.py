"""What tests of several runs at once have done in the processes that train."""

from __future__ import annotations

import os
import signal
from typing import Any

from support.ray_workers import register_toy

from drcli.watch.events import EpochFinished, Event, Listener

KILLED = "toy-killed"
"""Name of the recipe whose run takes its process with it."""


class OnWorker(Listener):
    """Registers the dataset "toy" where it arrives, and ends that process after two epochs of `KILLED`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return arrived, ()

    def on(self, event: Event) -> None:
        if isinstance(event, EpochFinished) and event.run.recipe.name == KILLED and event.record.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)


def arrived() -> OnWorker:
    """The listener in the process that trains."""
    register_toy()
    return OnWorker()
